"""What the service takes, and how much of it."""

from typing import Literal

from pydantic import Field

from trauma_api.schemas.base import Schema


class TransferSyntax(Schema):
    """One way of encoding DICOM pixels that can be decoded."""

    uid: str
    name: str
    lossy: bool = Field(description="May have been compressed with loss; studies of it carry a warning.")
    decoder: str = Field(description="What decodes it here.")


class SopClass(Schema):
    """One kind of DICOM object."""

    uid: str
    name: str


class Formats(Schema):
    """What can be uploaded. Files are identified by their content; names and stated types are not believed."""

    content_types: list[str] = Field(description="Of the body of `POST /v1/studies`.")
    image_kinds: list[Literal["dicom", "nifti", "png", "jpeg"]]
    archive_kinds: list[Literal["zip", "gzip"]] = Field(description="gzip: around one NIfTI file.")
    sop_classes: list[SopClass]
    transfer_syntaxes: list[TransferSyntax]
    decoders: list[str] = Field(description="What decodes pixels here: the decoders of `transfer_syntaxes`, once each.")


class UploadLimits(Schema):
    """Of one request."""

    max_json_bytes: int
    max_upload_bytes: int
    max_upload_files: int = Field(description="Those in archives included.")
    max_form_fields: int = Field(description="Parts of a form that are not files.")
    max_form_field_bytes: int
    max_part_header_bytes: int
    upload_idle_s: float = Field(description="Given up when less than `upload_min_bytes_per_s` arrives for so long.")
    upload_min_bytes_per_s: int


class ArchiveLimits(Schema):
    """Of archives and compressed files."""

    max_entry_bytes: int = Field(description="One entry, inflated.")
    max_expanded_bytes: int = Field(description="All of an upload, inflated.")
    max_entry_ratio: int = Field(description="Inflated to packed bytes of one entry.")
    max_total_ratio: int = Field(description="Inflated to packed bytes of all of an archive.")
    ratio_free_bytes: int = Field(description="Ratios count from so many inflated bytes on.")
    max_nesting: int = Field(description="Archives inside archives.")


class ImageLimits(Schema):
    """Of images."""

    min_side: int = Field(description="Rows or columns.")
    max_side: int = Field(description="Rows or columns of a CT image.")
    max_picture_side: int = Field(description="Rows or columns of a PNG or JPEG picture.")
    max_frames: int = Field(description="Frames of one file.")
    max_voxels: int = Field(description="Voxels of the series that is used.")
    max_sequence_depth: int = Field(description="Sequences inside sequences of a DICOM file.")
    max_elements: int = Field(description="Data elements of a DICOM file; a multi-frame file may hold more.")
    max_text_bytes: int = Field(description="One text value of a DICOM file.")


class IngestLimits(Schema):
    """Of the processes that read an upload."""

    ingest_children: int = Field(description="Processes that share the work on one upload.")
    ingest_memory_bytes: int = Field(description="Address space of each.")
    ingest_cpu_s_per_file: int
    ingest_wall_s: int


class Capabilities(Schema):
    """What the service takes, and how much of it."""

    formats: Formats
    upload_limits: UploadLimits
    archive_limits: ArchiveLimits
    image_limits: ImageLimits
    ingest_limits: IngestLimits
    notice: str
