"""The header pass over DICOM files: one record per slice, without pixels and without patient data."""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from trauma_api.errors import InputError
from trauma_api.imaging.entries import Entry
from trauma_api.imaging.study import Modality

PARSE_FAILURES = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RuntimeError,  # also NotImplementedError and RecursionError
    EOFError,
    OSError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders have been seen to raise on damaged files."""

_CT_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
    }
)
# PS3.5 section 8.2 and annex A.4: syntaxes that lose information, and those that do unless the file denies it.
_LOSSY_SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{suffix}" for suffix in ("50", "51", "52", "53", "54", "55", "56", "81")
)
_PERHAPS_LOSSY_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"})
_KNOWN_MODALITIES: dict[str, Modality] = {"CT": "CT", "MR": "MR", "PT": "PT", "SEG": "SEG"}
_ATTRIBUTES: list[str] = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "ImageType", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "LossyImageCompression",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


class MalformedDicomError(InputError):
    """A DICOM file cannot be parsed, or its attributes contradict each other."""

    code = "malformed-dicom"
    title = "DICOM file is damaged"
    public_message = "A DICOM file is damaged. Export it again, or send the study without it."


@dataclass(frozen=True)
class SliceHeader:
    """One slice: a file, or one frame of a multi-frame file. None where the file does not say."""

    entry: Entry
    frame: int
    series_uid: str | None
    modality: Modality
    rows: int
    columns: int
    transfer_syntax_uid: str
    bits_stored: int | None
    lossy: bool
    localizer: bool
    unplaced_frames: bool
    """Several frames without functional groups, so nothing says where each lies."""
    one_grey_channel: bool
    rescale_type: str | None
    rescale: tuple[float, float] | None
    """Slope and intercept."""
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_yx_mm: tuple[float, ...] | None


def read_headers(entry: Entry) -> tuple[SliceHeader, ...]:
    """The slices of one DICOM file; none when it holds no image.

    Enhanced multi-frame CT gives one record per frame, from its functional groups (DICOM PS3.3 section C.7.6.16).
    Raises MalformedDicomError, except for a file without the DICM mark, which then is taken not to be DICOM.
    """
    try:
        dataset = pydicom.dcmread(entry.path, stop_before_pixels=True, force=True, specific_tags=_ATTRIBUTES)
        return tuple(_slices(entry, dataset))
    except PARSE_FAILURES:
        if entry.kind == "maybe-dicom":
            return ()
        raise MalformedDicomError(
            f"{entry.where.capitalize()} is damaged DICOM. Export it again, or send the study without it."
        ) from None


def transfer_syntax_of(dataset: Dataset) -> str:
    """The transfer syntax of the file meta, or without one the native syntax in which the dataset was parsed."""
    stated = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if stated:
        return str(stated)
    implicit, little = dataset.original_encoding
    if little is False:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def _slices(entry: Entry, dataset: Dataset) -> Iterator[SliceHeader]:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    modality = _modality(dataset)
    if not (isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0):
        if _sop_class(dataset) in _CT_IMAGE_CLASSES:
            raise ValueError("a CT image without rows and columns")
        return
    placed_frames, unplaced_frames = _frame_counts(dataset) if modality == "CT" else (1, False)
    series_uid = dataset.get("SeriesInstanceUID")
    for frame in range(placed_frames):
        yield SliceHeader(
            entry=entry,
            frame=frame,
            series_uid=str(series_uid) if series_uid else None,
            modality=modality,
            rows=rows,
            columns=columns,
            transfer_syntax_uid=transfer_syntax_of(dataset),
            bits_stored=dataset.get("BitsStored"),
            lossy=_is_lossy(dataset),
            unplaced_frames=unplaced_frames,
            one_grey_channel=dataset.get("SamplesPerPixel", 1) == 1
            and dataset.get("PhotometricInterpretation") == "MONOCHROME2",
            **_frame_attributes(dataset, frame),
        )


def _frame_attributes(dataset: Dataset, frame: int) -> dict[str, Any]:
    values = _macro(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = values.get("RescaleSlope"), values.get("RescaleIntercept")
    rescale = (float(slope), float(intercept)) if slope is not None and intercept is not None else None
    kinds = _macro(dataset, frame, "CTImageFrameTypeSequence").get("FrameType") or dataset.get("ImageType") or ()
    return {
        "localizer": "LOCALIZER" in ([kinds.upper()] if isinstance(kinds, str) else [str(kind) for kind in kinds]),
        "rescale_type": str(values.get("RescaleType") or "") or None,
        "rescale": rescale if rescale and rescale[0] != 0 and all(math.isfinite(value) for value in rescale) else None,
        "position_mm": _numbers(_macro(dataset, frame, "PlanePositionSequence").get("ImagePositionPatient"), 3),
        "orientation": _numbers(_macro(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        "spacing_yx_mm": _numbers(_macro(dataset, frame, "PixelMeasuresSequence").get("PixelSpacing"), 2),
    }


def _macro(dataset: Dataset, frame: int, keyword: str) -> Dataset:
    """Where a frame's attributes lie: in its own functional group, in the shared one, or on top of other files."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return dataset
    for group in (per_frame[frame], *(dataset.get("SharedFunctionalGroupsSequence") or ())):
        if items := group.get(keyword):
            found: Dataset = items[0]
            return found
    return Dataset()


def _frame_counts(dataset: Dataset) -> tuple[int, bool]:
    """How many frames have functional groups, 1 for a plain slice; and whether there are frames without."""
    count = int(dataset.get("NumberOfFrames") or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return 1, count > 1
    if len(groups) != count:
        raise ValueError("frames without functional groups")
    return count, False


def _sop_class(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", Dataset())
    return str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")


def _modality(dataset: Dataset) -> Modality:
    stated = dataset.get("Modality")
    if not stated and _sop_class(dataset) in _CT_IMAGE_CLASSES:
        return "CT"
    return _KNOWN_MODALITIES.get(str(stated), "OT")


def _is_lossy(dataset: Dataset) -> bool:
    stated, syntax = str(dataset.get("LossyImageCompression")), transfer_syntax_of(dataset)
    return stated == "01" or syntax in _LOSSY_SYNTAXES or (syntax in _PERHAPS_LOSSY_SYNTAXES and stated != "00")


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None or isinstance(value, str | float) or len(value) != count:
        return None
    numbers = tuple(float(item) for item in value)
    return numbers if all(math.isfinite(number) for number in numbers) else None
