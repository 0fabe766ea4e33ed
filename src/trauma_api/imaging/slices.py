"""What the header pass finds: the single files of an upload, and the slices in them. Data only, no patient data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trauma_api.imaging.study import Modality, Phase

EntryKind = Literal["dicom", "maybe-dicom", "nifti", "picture", "zip", "unknown"]


@dataclass(frozen=True)
class Entry:
    """One file of an upload, archives taken apart."""

    position: int
    """Of the uploaded file, from 0."""
    number: int | None
    """Of the entry in the archive that was uploaded, from 0; None for a file that was sent by itself."""
    path: Path
    """Where its bytes lie, decompressed."""
    kind: EntryKind
    digest: str
    """BLAKE3 in hex, of the bytes as they were sent; of what was packed in an archive, in gzip or by deflate, of the
    inflated bytes."""
    transfer_syntax_uid: str | None = None
    """Overrides the file meta's where the file was rewritten: inflated DICOM is Explicit VR Little Endian."""

    @property
    def where(self) -> str:
        """Names the file in errors by its position, because a file name may hold a patient's name."""
        file = f"the file at position {self.position}"
        return file if self.number is None else f"entry {self.number} of {file}"


@dataclass(frozen=True)
class InPlane:
    """How a decoded image is turned to have rows front to back and columns the patient's right to left.

    Transposed first, then flipped.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


@dataclass(frozen=True)
class PixelLayout:
    """How stored values lie in a file. None where the file does not say."""

    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    signed: bool
    frames: int
    """Frames in the file, 1 for a plain slice."""
    offset: int | None
    """Byte at which the value of Pixel Data (7FE0,0010) starts; None without one."""
    length: int | None
    """Bytes of that value; None where it is undefined (encapsulated)."""


@dataclass(frozen=True)
class SliceHeader:
    """One slice: a file, or one frame of a multi-frame file. None where the file does not say.

    Free text of the file (descriptions, kernels' names, agents) is never kept: only closed words made from it.
    """

    entry: Entry
    frame: int
    series_uid: str | None
    instance_uid: str | None
    modality: Modality
    rows: int
    columns: int
    transfer_syntax_uid: str
    pixels: PixelLayout
    lossy: bool
    localizer: bool
    derived: bool
    """ImageType says DERIVED or SECONDARY, or names a reformat or projection (MPR, MIP, ...)."""
    unplaced_frames: bool
    """Several frames without functional groups, so nothing says where each lies."""
    one_grey_channel: bool
    rescale_type: str | None
    rescale: tuple[float, float] | None
    """Slope and intercept."""
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_yx_mm: tuple[float, ...] | None
    thickness_mm: float | None
    """SliceThickness as stated. Never the distance between slices."""
    frame_of_reference_uid: str | None
    instance_number: int | None
    acquisition_number: int | None
    temporal_index: int | None
    stack_id: str | None
    acquired_at_s: float | None
    """Acquisition time in seconds of the day; orders phases."""
    phase: Phase
    """From coded attributes and from words of the descriptions."""
    contrast_agent: bool | None
    """A contrast agent is stated; None: the attribute is absent."""
    sharp_kernel: bool | None
    """A reconstruction kernel for bone or lung; None where it cannot be told."""


@dataclass(frozen=True)
class LeftOut:
    """Why one file was not used: a stable kebab-case code and a sentence that names the file by position."""

    code: str
    detail: str


@dataclass(frozen=True)
class ScannedEntry:
    """One file after the header pass."""

    entry: Entry
    slices: tuple[SliceHeader, ...] = ()
    left_out: LeftOut | None = None
