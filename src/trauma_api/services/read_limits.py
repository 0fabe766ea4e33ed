"""The reading limits, as the settings have them."""

from trauma_api.imaging.study import ReadLimits
from trauma_api.settings import Settings


def read_limits(settings: Settings) -> ReadLimits:
    """How much one upload may hold."""
    return ReadLimits(
        max_files=settings.max_upload_files,
        max_entry_bytes=settings.max_entry_bytes,
        max_expanded_bytes=settings.max_expanded_bytes,
        max_entry_ratio=settings.max_entry_ratio,
        max_total_ratio=settings.max_total_ratio,
        min_side=settings.min_side,
        max_side=settings.max_side,
        max_picture_side=settings.max_picture_side,
        max_frames=settings.max_frames,
        max_voxels=settings.max_voxels,
        max_sequence_depth=settings.max_sequence_depth,
        max_elements=settings.max_elements,
        max_text_bytes=settings.max_text_bytes,
    )
