"""What goes into reading an upload and what comes out of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trauma_api.imaging.volume import ImageStack

Modality = Literal["CT", "MR", "PT", "SEG", "OT", "picture"]
Orientation = Literal["axial", "coronal", "sagittal", "oblique"]
Source = Literal["dicom", "nifti", "pictures"]
Phase = Literal["non_contrast", "arterial", "portal_venous", "delayed", "unknown"]
"""Contrast phase of a series."""


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
    """One entry of an archive or one compressed file, inflated."""
    max_expanded_bytes: int = 4 * 2**30
    """All that archives and compressed files inflate to."""
    max_entry_ratio: int = 100
    """Inflated to packed bytes of one entry; counted once it is over ``ratio_free_bytes``."""
    max_total_ratio: int = 20
    """The same for all of an archive."""
    ratio_free_bytes: int = 16 * 2**20
    min_side: int = 16
    max_side: int = 2_048
    """Rows or columns of a CT image."""
    max_picture_side: int = 4_096
    """Rows or columns of a PNG or JPEG picture."""
    max_frames: int = 5_000
    """Frames of one file."""
    max_voxels: int = 1_500_000_000
    """Voxels of the chosen series."""
    max_sequence_depth: int = 16
    """Sequences inside sequences of a DICOM file."""
    max_elements: int = 20_000
    """Data elements of a DICOM file, those in sequences included; a multi-frame file may hold 200 more a frame."""
    max_text_bytes: int = 64 * 2**10
    """One text value of a DICOM file."""


@dataclass(frozen=True)
class SeriesSummary:
    """One series found in the upload, with its geometry from the headers, before any reordering of axes."""

    series_id: str
    """12 hex digits made from the digests of the series' files: the same files give the same id. Pins the series."""
    series_uid: str | None
    modality: Modality
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: tuple[float, float, float] | None
    """Between slice planes (the mean where the distance varies), rows and columns; None without a grid."""
    orientation: Orientation | None
    phase: Phase
    lossy: bool
    transfer_syntax_uid: str | None
    """Of the series' first file; None for NIfTI and pictures."""
    selected: bool
    reason: str
    """Why it was selected or not, stable and in kebab-case: the code of the refusal that it would have met alone, or
    ``selected``, ``pinned``, ``not-pinned``, ``lower-score``, ``equal-score``, ``not-ct``."""
    score: float | None
    """How well it suits, 0 to 100; None where it is not usable."""
    score_reasons: tuple[str, ...]
    """What the score was made of, stable and in kebab-case."""


@dataclass(frozen=True)
class StudyWarning:
    """Something that the reader of a result has to know. No patient data in it."""

    code: str
    detail: str


@dataclass(frozen=True)
class Coverage:
    """How much of the abdomen the slices show, judged from the pixels alone."""

    abdomen_slices: tuple[int, int] | None
    """First and last slice index that shows abdomen or pelvis; None where none was recognised."""
    abdomen_extent_mm: float | None
    """From the first of them to the last, along the body, slice thickness included."""
    top_included: bool | None
    """Lung is seen above the abdomen, so the dome of the diaphragm is in; None where it cannot be told."""
    bottom_included: bool | None
    """The hips or thighs are seen below, so the pelvis is in; None where it cannot be told."""


@dataclass(frozen=True)
class Eligibility:
    """Whether the chosen series may be scored at all. An ineligible one is kept and shown, and abstained from."""

    status: Literal["eligible", "ineligible", "not_checked"]
    """``not_checked``: pictures, which hold no Hounsfield units."""
    reasons: tuple[StudyWarning, ...] = ()
    """Why it is ineligible; empty otherwise."""
    warnings: tuple[StudyWarning, ...] = ()
    """What a reader of results has to know of an eligible one, incomplete coverage above all."""
    coverage: Coverage | None = None


@dataclass(frozen=True)
class ReadStudy:
    """One upload, read.

    ``digest`` is a sha256 in hex of what was sent: the digests of the single files, archives taken apart and whatever
    their order and names (of pictures: in order), with the chosen series and what was stated beside them.
    """

    digest: str
    source: Source
    stack: ImageStack
    stack_path: Path
    """The file that the stack is mapped from: its voxels alone, little endian, in C order."""
    series: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]
    eligibility: Eligibility
