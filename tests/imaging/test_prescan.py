"""The walk over data elements: what it refuses, what it takes, and where it finds the pixels."""

import os
import struct
import time
from pathlib import Path

import pytest

from tests.imaging.raw_files import UNDEFINED, ct_bytes, element, image, nested, scan_bytes
from trauma_api.imaging.headers import WANTED
from trauma_api.imaging.prescan import Outline, prescan
from trauma_api.imaging.slices import ScannedEntry
from trauma_api.imaging.study import ReadLimits

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PRIVATE = 0x00291010


def code_of(record: ScannedEntry) -> str | None:
    return record.left_out.code if record.left_out else None


def outline_of(content: bytes, folder: Path, head_bytes: int) -> Outline:
    """The outline with only the first bytes at hand, the rest to be read from the file."""
    path = folder / "file"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return prescan(descriptor, memoryview(content[:head_bytes]), len(content), WANTED.tags, ReadLimits())
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("vr", ["SQ", "UN", None])
@pytest.mark.parametrize(("depth", "code"), [(16, None), (17, "dicom-nesting"), (1_000, "dicom-nesting")])
def test_sequences_nest_sixteen_deep_and_no_deeper(
    tmp_path: Path, defined: bool, vr: str | None, depth: int, code: str | None
) -> None:
    syntax = IMPLICIT if vr is None else "1.2.840.10008.1.2.1"

    record = scan_bytes(image(nested(depth, defined=defined, vr=vr), syntax), tmp_path)

    assert code_of(record) == code
    assert len(record.slices) == (0 if code else 1)


def test_ten_thousand_levels_are_refused_at_once(tmp_path: Path) -> None:
    begun = time.perf_counter()

    record = scan_bytes(image(nested(10_000, defined=False)), tmp_path)

    assert code_of(record) == "dicom-nesting"
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("content", [element(PRIVATE, "LO"), element(PRIVATE, "OB"), nested(1, defined=True)])
def test_elements_are_counted(tmp_path: Path, content: bytes) -> None:
    assert code_of(scan_bytes(image(content * 100), tmp_path, ReadLimits(max_elements=400))) is None
    refused = scan_bytes(image(content * 100), tmp_path, ReadLimits(max_elements=99))
    assert code_of(refused) == "dicom-too-many-elements"


def test_millions_of_elements_are_refused_at_once(tmp_path: Path) -> None:
    begun = time.perf_counter()

    record = scan_bytes(image(element(PRIVATE, "LO") * 3_000_000), tmp_path)

    assert code_of(record) == "dicom-too-many-elements"
    assert time.perf_counter() - begun < 1


def test_each_frame_may_have_two_hundred_elements_more(tmp_path: Path) -> None:
    content = element(PRIVATE, "LO") * 600
    frames = element(0x00280008, "IS", b"4 ")

    assert code_of(scan_bytes(image(content), tmp_path, ReadLimits(max_elements=20))) == "dicom-too-many-elements"
    assert code_of(scan_bytes(image(frames + content), tmp_path, ReadLimits(max_elements=20))) is None


def test_a_large_file_that_is_no_image_is_no_refusal(tmp_path: Path) -> None:
    meta = element(0x00020010, "UI", b"1.2.840.10008.1.2.1\x00")
    report = bytes(128) + b"DICM" + meta + element(0x00080060, "CS", b"SR") + element(0x0040A160, "LO") * 500

    record = scan_bytes(report, tmp_path, ReadLimits(max_elements=100))

    assert (record.slices, record.left_out) == ((), None)


@pytest.mark.parametrize(("frames", "code"), [(b"5000", None), (b"5001", "dicom-too-many-frames"), (b"999999", None)])
def test_frames_are_limited(tmp_path: Path, frames: bytes, code: str | None) -> None:
    limits = ReadLimits(max_frames=999_999) if frames == b"999999" else ReadLimits()

    assert code_of(scan_bytes(image(element(0x00280008, "IS", frames)), tmp_path, limits)) == code


@pytest.mark.parametrize(
    ("vr", "syntax", "tag", "code"),
    [
        ("UC", "1.2.840.10008.1.2.1", 0x00189999, "dicom-text-too-long"),
        ("UT", "1.2.840.10008.1.2.1", 0x00189999, None),
        ("UN", "1.2.840.10008.1.2.1", 0x00189999, None),
        ("OB", "1.2.840.10008.1.2.1", 0x00189999, None),
        (None, IMPLICIT, 0x0008103E, "dicom-text-too-long"),
        (None, IMPLICIT, PRIVATE, None),
    ],
)
def test_texts_are_limited_and_other_values_are_not(
    tmp_path: Path, vr: str | None, syntax: str, tag: int, code: str | None
) -> None:
    assert code_of(scan_bytes(image(element(tag, vr, b"a" * 65_538), syntax), tmp_path)) == code
    assert code_of(scan_bytes(image(element(tag, vr, b"a" * 65_536), syntax), tmp_path)) is None


def test_a_lower_text_limit_holds_for_short_texts_too(tmp_path: Path) -> None:
    content = image(element(PRIVATE, "LO", b"a" * 102))

    assert code_of(scan_bytes(content, tmp_path, ReadLimits(max_text_bytes=100))) == "dicom-text-too-long"


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE, 1_000])
@pytest.mark.parametrize("vr", ["OB", "UN", "SQ"])
def test_lengths_past_the_end_of_the_file_are_damage(tmp_path: Path, vr: str, length: int) -> None:
    assert code_of(scan_bytes(image(element(PRIVATE, vr, b"ab", length)), tmp_path)) == "malformed-dicom"
    started = element(PRIVATE, vr, element(ITEM, None), length)
    assert code_of(scan_bytes(image(started), tmp_path)) == "malformed-dicom"


def test_a_pixel_length_that_lies_is_noted_as_it_is_stated(tmp_path: Path) -> None:
    content = image(b"")
    at = len(content) - 12
    forged = content[: at - 4] + struct.pack("<L", 0xFFFFFFFE) + content[at:]

    (header,) = scan_bytes(forged, tmp_path).slices

    assert (header.pixels.offset, header.pixels.length) == (at, 0xFFFFFFFE)


def test_a_file_cut_inside_its_header_is_damaged(tmp_path: Path) -> None:
    content = ct_bytes()

    assert code_of(scan_bytes(content[: content.index(b"SECRET") + 3], tmp_path)) == "malformed-dicom"


@pytest.mark.parametrize(
    "content",
    [
        element(PRIVATE, "SQ", b"no items at all."),
        element(PRIVATE, "SQ", element(ITEM, None, b"\x01\x02\x03")),
        element(PRIVATE, "SQ", element(ITEM, None, element(0x00080060, "CS", b"CT", 60_000))),
        element(PRIVATE, "SQ", element(ITEM, None, b"", 60_000)),
        element(PRIVATE, "SQ", element(ITEM, None, b"", UNDEFINED) + element(0x00080060, "CS", b"CT")),
        element(PRIVATE, "SQ", element(ITEM, None, element(0x00080060, None, b"CT"))),
        element(PRIVATE, "ZZ", b"ab"),
        element(PRIVATE, "OB", element(ITEM, None, b"1234") + element(SEQUENCE_END, None), UNDEFINED),
        element(PRIVATE, "UN", element(ITEM, None, element(0x00080060, None, b"CT")) + element(SEQUENCE_END, None),
                UNDEFINED),
        element(0x00290000, "UL", b"\x10\x27\x00\x00"),
        struct.pack("<HH", 0x0029, 0x1011) + struct.pack("<L", 2) + b"ab",
    ],
)  # fmt: skip
def test_what_files_get_wrong_around_an_image_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (header,) = scan_bytes(image(content), tmp_path).slices

    assert (header.rows, header.columns) == (2, 3)
    assert header.pixels.offset == len(image(content)) - 12


def test_an_undefined_sequence_without_an_end_is_damage(tmp_path: Path) -> None:
    content = element(PRIVATE, "SQ", element(ITEM, None, element(0x00080060, "CS", b"CT"), UNDEFINED), UNDEFINED)

    assert code_of(scan_bytes(image(content), tmp_path)) == "malformed-dicom"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("head_bytes", [540, 2_000, 10**6])
def test_a_header_longer_than_what_is_at_hand_is_read_on(tmp_path: Path, syntax: str, head_bytes: int) -> None:
    content = ct_bytes(syntax, ImageComments="a" * 10_000, SeriesDescription="b" * 60, AcquisitionNumber=7)

    outline = outline_of(content, tmp_path, head_bytes)

    assert outline.pixel_offset == len(content) - 24
    assert outline.pixel_bytes == 24
    assert outline.values[0x00200012][1].strip() == b"7"
    assert outline == outline_of(content, tmp_path, len(content))


def test_the_pixels_of_an_icon_are_not_the_image(tmp_path: Path) -> None:
    icon_pixels = element(0x7FE00010, "OB", element(ITEM, None, b"1234") + element(SEQUENCE_END, None), UNDEFINED)
    icon = element(0x00880200, "SQ", element(ITEM, None, element(0x00280010, "US", b"\x09\x00") + icon_pixels))

    (header,) = scan_bytes(image(icon), tmp_path).slices

    assert header.rows == 2
    assert header.pixels.offset == len(image(icon)) - 12
