"""What goes into reading an upload and what comes out of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trauma_api.imaging.volume import ImageStack

Modality = Literal["CT", "MR", "PT", "SEG", "OT", "picture"]
Orientation = Literal["axial", "coronal", "sagittal", "oblique"]
Source = Literal["dicom", "nifti", "pictures"]


@dataclass(frozen=True)
class UploadedFile:
    """One file as it was sent. Errors name it by its position, because a file name may hold a patient's name."""

    position: int
    """From 0, in the order sent."""
    path: Path
    """Where the bytes lie."""


@dataclass(frozen=True)
class ReadLimits:
    """How much one upload may hold."""

    max_files: int = 5_000
    """Files of the upload, the entries of its archives included."""
    max_entry_bytes: int = 2**30
    """One entry of a ZIP archive, inflated."""
    max_expanded_bytes: int = 4 * 2**30
    """All that archives and compressed files inflate to."""
    max_side: int = 4_096
    """Rows or columns of an image."""
    max_voxels: int = 1_500_000_000
    """Voxels of the chosen series."""


@dataclass(frozen=True)
class SeriesSummary:
    """One series found in the upload, with its geometry from the headers, before any reordering of axes."""

    series_uid: str | None
    modality: Modality
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: tuple[float, float, float] | None
    """Between slice planes, rows and columns; None where the series has no regular grid."""
    orientation: Orientation | None
    lossy: bool
    transfer_syntax_uid: str | None
    """Of the series' first file; None for NIfTI and pictures."""
    selected: bool
    reason: str
    """Why it was selected or not, stable and in kebab-case: the code of the refusal that it would have met alone, or
    ``selected``, ``fewer-slices``, ``same-slice-count``, ``not-ct``."""


@dataclass(frozen=True)
class StudyWarning:
    """Something that the reader of a result has to know. No patient data in it."""

    code: str
    detail: str


@dataclass(frozen=True)
class ReadStudy:
    """One upload, read.

    ``digest`` is a sha256 in hex. Of DICOM it covers the set of the image files' own digests, so order, names and
    archives do not change it; of NIfTI the decompressed bytes; of pictures their digests in order with the stated
    spacing and window.
    """

    digest: str
    source: Source
    stack: ImageStack
    series: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]
