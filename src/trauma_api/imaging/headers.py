"""The header pass over one DICOM file: one record per slice, without pixels and without patient data."""

import math
import struct
from collections.abc import Callable, Container, Iterator
from typing import Any, Protocol

from pydicom.errors import BytesLengthException, InvalidDicomError

from trauma_api.imaging.attributes import (
    Attributes,
    Wanted,
    helpful_number,
    helpful_whole,
    numbers,
    seconds_of_day,
    words,
)
from trauma_api.imaging.functional_groups import PER_FRAME, SHARED, Frame, frames_of
from trauma_api.imaging.prescan import DEFLATED, Outline
from trauma_api.imaging.slices import Entry, PixelLayout, SliceHeader
from trauma_api.imaging.stated_words import is_derived, is_localizer, is_sharp_kernel, stated_phase, states_agent
from trauma_api.imaging.study import Modality
from trauma_api.imaging.unusable import MalformedDicomError

_PARSE_FAILURES = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RuntimeError,  # also NotImplementedError and RecursionError
    EOFError,
    MemoryError,
    AssertionError,
    struct.error,
)
"""What pydicom has been seen to raise on damaged functional groups, and values that are no numbers."""

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
_AGENT_CODES = "ContrastBolusAgentSequence"

WANTED = Wanted(
    [
        "MediaStorageSOPClassUID", "TransferSyntaxUID", "SOPClassUID", "SOPInstanceUID", "Modality",
        "SeriesInstanceUID", "ImageType", "SeriesDescription", "ProtocolName", "ContrastBolusAgent", _AGENT_CODES,
        "ConvolutionKernel", "SliceThickness", "AcquisitionDateTime", "AcquisitionTime", "FrameOfReferenceUID",
        "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "Rows", "Columns", "NumberOfFrames",
        "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
        "RescaleType", "LossyImageCompression", SHARED, PER_FRAME,
    ]
)  # fmt: skip
"""The attributes that a prescan has to keep for `read_headers`."""


class _Gets(Protocol):
    def get(self, keyword: str, /) -> Any: ...


def read_headers(entry: Entry, outline: Outline) -> tuple[SliceHeader, ...]:
    """The slices of one DICOM file; none when it holds no image.

    Enhanced multi-frame CT gives one record per frame, from its functional groups (DICOM PS3.3 section C.7.6.16) and
    from what the conversion of single slices left unassigned (section C.7.6.16.2.25.2 ff.).
    Raises MalformedDicomError.
    """
    try:
        return tuple(_slices(entry, outline, Attributes(outline, WANTED)))
    except _PARSE_FAILURES:
        raise MalformedDicomError from None
    except OSError as failure:
        # pydicom raises it for a sequence that is cut short, without the number that every failure of a disk has.
        if failure.errno is not None:
            raise
        raise MalformedDicomError from None


def _slices(entry: Entry, outline: Outline, attributes: Attributes) -> Iterator[SliceHeader]:
    rows, columns = attributes.get("Rows"), attributes.get("Columns")
    sop_class = _text(attributes, "SOPClassUID") or _text(attributes, "MediaStorageSOPClassUID")
    if not (isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0):
        if sop_class in _CT_IMAGE_CLASSES:
            raise ValueError("a CT image without rows and columns")
        return
    modality = _modality(attributes, sop_class)
    count = int(attributes.get("NumberOfFrames") or 1) if modality == "CT" else 1
    frames = frames_of(entry.path, outline, WANTED, count) if modality == "CT" else ()
    # Only deflated files are rewritten; what is told is how they were sent.
    syntax = DEFLATED.decode("ascii") if entry.transfer_syntax_uid else _transfer_syntax(outline)
    shared: dict[str, Any] = {
        "entry": entry,
        "series_uid": _text(attributes, "SeriesInstanceUID"),
        "instance_uid": _text(attributes, "SOPInstanceUID"),
        "modality": modality,
        "rows": rows,
        "columns": columns,
        "transfer_syntax_uid": syntax,
        "pixels": _pixel_layout(outline, attributes),
        "lossy": _is_lossy(attributes, syntax),
        "unplaced_frames": not frames and count > 1,
        "one_grey_channel": attributes.get("SamplesPerPixel") in {None, 1}
        and attributes.get("PhotometricInterpretation") == "MONOCHROME2",
        "frame_of_reference_uid": _text(attributes, "FrameOfReferenceUID"),
    }
    if not frames:
        yield SliceHeader(frame=0, **shared, **_plain_attributes(attributes, outline))
    for number, frame in enumerate(frames):
        yield SliceHeader(frame=number, **shared, **_frame_attributes(frame, attributes, outline))


def _plain_attributes(attributes: Attributes, outline: Outline) -> dict[str, Any]:
    agent = _stated_agent(attributes, outline.sequences)
    return {
        **_image_kind(attributes.get("ImageType")),
        **_values_kind(attributes.get),
        "position_mm": numbers(attributes.get("ImagePositionPatient"), 3),
        "orientation": numbers(attributes.get("ImageOrientationPatient"), 6),
        "spacing_yx_mm": numbers(attributes.get("PixelSpacing"), 2),
        "thickness_mm": helpful_number(attributes.get, "SliceThickness"),
        "instance_number": helpful_whole(attributes.get, "InstanceNumber"),
        "acquisition_number": helpful_whole(attributes.get, "AcquisitionNumber"),
        "temporal_index": helpful_whole(attributes.get, "TemporalPositionIdentifier"),
        "stack_id": None,
        "acquired_at_s": _acquired_at_s(attributes),
        "phase": stated_phase(_descriptions(attributes), agent),
        "contrast_agent": agent,
        "sharp_kernel": is_sharp_kernel(words(attributes.get("ConvolutionKernel"))),
    }


def _frame_attributes(frame: Frame, attributes: Attributes, outline: Outline) -> dict[str, Any]:
    administered = frame.get("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered")
    agent = {"YES": True, "NO": False}.get(str(administered), _stated_agent(attributes, outline.sequences))
    coded = str(frame.get("ContrastBolusUsageSequence", "ContrastBolusAgentPhase") or "")
    kinds = frame.get("CTImageFrameTypeSequence", "FrameType") or attributes.get("ImageType")
    kernel = frame.get("CTReconstructionSequence", "ConvolutionKernel") or attributes.get("ConvolutionKernel")

    def from_content(keyword: str) -> Any:
        return frame.get("FrameContentSequence", keyword)

    acquired = seconds_of_day(from_content("FrameAcquisitionDateTime"), dated=True)
    return {
        **_image_kind(kinds),
        **_values_kind(lambda keyword: frame.get("PixelValueTransformationSequence", keyword)),
        "position_mm": numbers(frame.get("PlanePositionSequence", "ImagePositionPatient"), 3),
        "orientation": numbers(frame.get("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        "spacing_yx_mm": numbers(frame.get("PixelMeasuresSequence", "PixelSpacing"), 2),
        "thickness_mm": helpful_number(lambda keyword: frame.get("PixelMeasuresSequence", keyword), "SliceThickness"),
        "instance_number": helpful_whole(from_content, "InstanceNumber")
        or helpful_whole(attributes.get, "InstanceNumber"),
        "acquisition_number": helpful_whole(from_content, "FrameAcquisitionNumber"),
        "temporal_index": helpful_whole(from_content, "TemporalPositionIndex"),
        "stack_id": str(from_content("StackID") or "") or None,
        "acquired_at_s": _acquired_at_s(attributes) if acquired is None else acquired,
        "phase": stated_phase([coded, *_descriptions(attributes)], agent),
        "contrast_agent": agent,
        "sharp_kernel": is_sharp_kernel(words(kernel)),
    }


def _image_kind(kinds: Any) -> dict[str, Any]:
    return {"localizer": is_localizer(words(kinds)), "derived": is_derived(words(kinds))}


def _values_kind(get: Callable[[str], Any]) -> dict[str, Any]:
    slope, intercept = get("RescaleSlope"), get("RescaleIntercept")
    rescale = (float(slope), float(intercept)) if slope is not None and intercept is not None else None
    usable = rescale is not None and rescale[0] != 0 and all(math.isfinite(value) for value in rescale)
    return {"rescale_type": str(get("RescaleType") or "") or None, "rescale": rescale if usable else None}


def _pixel_layout(outline: Outline, attributes: Attributes) -> PixelLayout:
    return PixelLayout(
        bits_allocated=helpful_whole(attributes.get, "BitsAllocated"),
        bits_stored=helpful_whole(attributes.get, "BitsStored"),
        high_bit=helpful_whole(attributes.get, "HighBit"),
        signed=attributes.get("PixelRepresentation") == 1,
        frames=max(1, helpful_whole(attributes.get, "NumberOfFrames") or 1),
        offset=outline.pixel_offset,
        length=outline.pixel_bytes,
    )


def _transfer_syntax(outline: Outline) -> str:
    """The transfer syntax of the file meta, or without one the native syntax in which the dataset was walked."""
    if outline.meta_syntax:
        return outline.meta_syntax.decode("latin-1").strip()
    if not outline.little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if outline.implicit else "1.2.840.10008.1.2.1"


def _modality(attributes: Attributes, sop_class: str | None) -> Modality:
    stated = _text(attributes, "Modality")
    if not stated and sop_class in _CT_IMAGE_CLASSES:
        return "CT"
    return _KNOWN_MODALITIES.get(stated or "", "OT")


def _is_lossy(attributes: Attributes, syntax: str) -> bool:
    stated = _text(attributes, "LossyImageCompression")
    return stated == "01" or syntax in _LOSSY_SYNTAXES or (syntax in _PERHAPS_LOSSY_SYNTAXES and stated != "00")


def _stated_agent(attributes: Attributes, sequences: Container[int]) -> bool | None:
    if WANTED.find(_AGENT_CODES)[0] in sequences:
        return True
    if "ContrastBolusAgent" not in attributes:
        return None
    return states_agent(_text(attributes, "ContrastBolusAgent") or "")


def _descriptions(attributes: Attributes) -> list[str]:
    return [_text(attributes, "SeriesDescription") or "", _text(attributes, "ProtocolName") or ""]


def _acquired_at_s(attributes: Attributes) -> float | None:
    time = seconds_of_day(_text(attributes, "AcquisitionTime"), dated=False)
    return seconds_of_day(_text(attributes, "AcquisitionDateTime"), dated=True) if time is None else time


def _text(attributes: _Gets, keyword: str) -> str | None:
    value = attributes.get(keyword)
    if isinstance(value, list):
        return "\\".join(str(part) for part in value)
    return str(value) if value is not None else None
