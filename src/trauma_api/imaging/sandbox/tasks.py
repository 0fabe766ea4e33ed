"""What a child process can be asked for. Arguments and results are JSON of the dataclasses here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import TypeAdapter

from trauma_api.imaging.anatomy import SliceStats, slice_stats
from trauma_api.imaging.nifti import NiftiStack, read_nifti
from trauma_api.imaging.pictures import PictureFacts, read_pictures
from trauma_api.imaging.pixels import StackType, WideRangeError, decode_into, supported_transfer_syntaxes
from trauma_api.imaging.scan import Begun, Share, scan
from trauma_api.imaging.slices import Entry, InPlane, ScannedEntry, SliceHeader
from trauma_api.imaging.study import ReadLimits, UploadedFile


@dataclass(frozen=True)
class ScanJob:
    """Identify, unpack and hash this share of the files, and read the headers of what is DICOM."""

    files: tuple[UploadedFile, ...]
    scratch: Path
    share: Share
    limits: ReadLimits
    skip: tuple[tuple[int, int | None], ...]


@dataclass(frozen=True)
class DecodeJob:
    """Decode slices to their places in a file of voxels, and look at some of them."""

    slices: tuple[SliceHeader, ...]
    numbers: tuple[int, ...]
    in_plane: InPlane
    target: Path
    dtype: StackType
    look_at: frozenset[int]
    spacing_yx_mm: tuple[float, float]
    """Of the slices as turned."""


@dataclass(frozen=True)
class DecodedSlice:
    """One slice is in its place; with what was seen in it when it was to be looked at."""

    number: int
    stats: SliceStats | None
    too_wide: bool = False
    """It is not in its place, because it holds values that int16 does not."""


@dataclass(frozen=True)
class ImageFilesJob:
    """Read NIfTI files, or pictures, to a file of voxels."""

    entries: tuple[Entry, ...]
    target: Path
    limits: ReadLimits


@dataclass(frozen=True)
class LookJob:
    """Look at some slices of a file of voxels."""

    target: Path
    dtype: StackType
    shape_zyx: tuple[int, int, int]
    look_at: tuple[int, ...]
    spacing_yx_mm: tuple[float, float]


SCAN_JOB = TypeAdapter(ScanJob)
SCANNED_ENTRY = TypeAdapter(ScannedEntry)
DECODE_JOB = TypeAdapter(DecodeJob)
DECODED_SLICE = TypeAdapter(DecodedSlice)
IMAGE_FILES_JOB = TypeAdapter(ImageFilesJob)
NIFTI_STACK = TypeAdapter(NiftiStack)
PICTURE_FACTS = TypeAdapter(PictureFacts)
LOOK_JOB = TypeAdapter(LookJob)

Said = Begun | bytes


def _scan(arguments: str) -> Iterator[Said]:
    job = SCAN_JOB.validate_json(arguments)
    for found in scan(job.files, job.scratch, job.share, job.limits, frozenset(job.skip)):
        yield found if isinstance(found, Begun) else SCANNED_ENTRY.dump_json(found)


def _decode(arguments: str) -> Iterator[Said]:
    job = DECODE_JOB.validate_json(arguments)
    decoding = decode_into(job.slices, job.numbers, job.in_plane, job.target, job.dtype)
    for number in job.numbers:
        yield Begun(number, None)
        try:
            decoded = next(decoding)
        except WideRangeError:
            yield DECODED_SLICE.dump_json(DecodedSlice(number, None, too_wide=True))
            return
        stats = slice_stats(decoded.slice_hu, job.spacing_yx_mm) if number in job.look_at else None
        yield DECODED_SLICE.dump_json(DecodedSlice(number, stats))


def _nifti(arguments: str) -> Iterator[Said]:
    job = IMAGE_FILES_JOB.validate_json(arguments)
    yield NIFTI_STACK.dump_json(read_nifti(job.entries, job.target, job.limits))


def _pictures(arguments: str) -> Iterator[Said]:
    job = IMAGE_FILES_JOB.validate_json(arguments)
    yield PICTURE_FACTS.dump_json(read_pictures(job.entries, job.target, job.limits))


def _look(arguments: str) -> Iterator[Said]:
    job = LOOK_JOB.validate_json(arguments)
    stack = np.memmap(job.target, job.dtype, "r", shape=job.shape_zyx)
    for number in job.look_at:
        yield DECODED_SLICE.dump_json(DecodedSlice(number, slice_stats(stack[number], job.spacing_yx_mm)))


TASKS: Mapping[str, Callable[[str], Iterator[Said]]] = MappingProxyType(
    {"scan": _scan, "decode": _decode, "nifti": _nifti, "pictures": _pictures, "look": _look}
)


def preload() -> None:
    """Load what tasks import late, decoders above all, so that no child has to."""
    supported_transfer_syntaxes()
