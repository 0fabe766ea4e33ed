"""What the service takes, and how much of it."""

import os
from functools import cache

from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.capabilities import (
    ArchiveLimits,
    Capabilities,
    Formats,
    ImageLimits,
    IngestLimits,
    SopClass,
    TransferSyntax,
    UploadLimits,
)
from trauma_api.services.read_limits import read_limits
from trauma_api.settings import Settings

_SOP_CLASSES = (
    SopClass(uid="1.2.840.10008.5.1.4.1.1.2", name="CT Image Storage"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.2.1", name="Enhanced CT Image Storage"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.2.2", name="Legacy Converted Enhanced CT Image Storage"),
)


def list_capabilities(settings: Settings, content_types: tuple[str, ...]) -> Capabilities:
    """Formats and limits as clients see them. Blocks the first time, when the decoders are loaded."""
    return Capabilities(
        formats=_formats(content_types),
        upload_limits=UploadLimits(**_named(settings, UploadLimits)),
        archive_limits=ArchiveLimits(**_named(read_limits(settings), ArchiveLimits), max_nesting=0),
        image_limits=ImageLimits(**_named(read_limits(settings), ImageLimits)),
        ingest_limits=_ingest_limits(settings),
        notice=RESEARCH_NOTICE,
    )


def _formats(content_types: tuple[str, ...]) -> Formats:
    syntaxes = _transfer_syntaxes()
    return Formats(
        content_types=list(content_types),
        image_kinds=["dicom", "nifti", "png", "jpeg"],
        archive_kinds=["zip", "gzip"],
        sop_classes=list(_SOP_CLASSES),
        transfer_syntaxes=list(syntaxes),
        decoders=sorted({syntax.decoder for syntax in syntaxes}),
    )


def _ingest_limits(settings: Settings) -> IngestLimits:
    return IngestLimits(
        ingest_children=settings.ingest_children or len(os.sched_getaffinity(0)),
        ingest_memory_bytes=settings.ingest_memory_bytes,
        ingest_cpu_s_per_file=settings.ingest_cpu_s_per_file,
        ingest_wall_s=settings.ingest_wall_s,
    )


def _named(source: object, schema: type[UploadLimits | ArchiveLimits | ImageLimits]) -> dict[str, int]:
    """The attributes of ``source`` that the schema has a field for."""
    return {name: getattr(source, name) for name in schema.model_fields if hasattr(source, name)}


@cache
def _transfer_syntaxes() -> tuple[TransferSyntax, ...]:
    # Imported here: describing the API must not load the decoders.
    from trauma_api.imaging.pixels import supported_transfer_syntaxes

    return tuple(
        TransferSyntax(uid=syntax.uid, name=syntax.name, lossy=syntax.lossy, decoder=syntax.decoder)
        for syntax in supported_transfer_syntaxes()
    )
