"""Stored values become the right HU, whatever their layout, and land where they belong; damage is refused."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.imaging.pixel_files import AS_IT_IS, decoded, records, write_native
from trauma_api.imaging.pixels import (
    StackType,
    UndecodablePixelsError,
    WideRangeError,
    decode_into,
    stack_dtype,
)
from trauma_api.imaging.slices import InPlane, PixelLayout

NATIVE_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
LAYOUTS = [
    (allocated, stored, high_bit, signed)
    for allocated, stored in ((8, 7), (8, 8), (16, 8), (16, 10), (16, 12), (16, 15), (16, 16), (32, 12), (32, 16))
    for high_bit in sorted({stored - 1, allocated - 1})
    for signed in (False, True)
]


def placed(values: NDArray[np.int64], allocated: int, stored: int, high_bit: int, seed: int) -> NDArray[np.generic]:
    """Words of the allocated width that hold the values up to the high bit, and random bits beside them."""
    shift, mask = high_bit + 1 - stored, 2**stored - 1
    noise = np.random.default_rng(seed).integers(0, 2**allocated, values.shape)
    words = (noise & ~(mask << shift)) | ((values & mask) << shift)
    return np.asarray(words.astype(f"u{allocated // 8}"))


@pytest.mark.parametrize("uid", NATIVE_SYNTAXES)
@pytest.mark.parametrize(("allocated", "stored", "high_bit", "signed"), LAYOUTS)
def test_any_layout_of_bits_gives_the_values_that_were_stored(
    tmp_path: Path, uid: str, allocated: int, stored: int, high_bit: int, signed: bool
) -> None:
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, min(2**stored, 33_000))
    values = np.random.default_rng(stored).integers(low, high, (3, 5, 7))
    path = write_native(
        tmp_path / "file",
        placed(values, allocated, stored, high_bit, seed=allocated),
        uid,
        BitsStored=stored,
        HighBit=high_bit,
        PixelRepresentation=int(signed),
        RescaleIntercept=-1100,
    )

    voxels = decoded(records(path), tmp_path / "stack")

    np.testing.assert_array_equal(voxels, np.maximum(values - 1100, -1024))
    if high_bit == stored - 1:
        raw, _ = get_decoder(UID(uid)).as_array(pydicom.dcmread(path), raw=True)
        np.testing.assert_array_equal(voxels, np.maximum(raw.astype(np.int64) - 1100, -1024))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("intercept", [0, 1, -1, -1024, -1025, 1000, -31744, -32768, 33000, -66560, 70000, -(10**9)])
def test_adding_the_intercept_never_wraps_around(tmp_path: Path, signed: bool, intercept: int) -> None:
    ends = np.array([-32768, -32767, -1025, -1024, -1, 0, 1, 32766, 32767] if signed else [0, 1, 32767, 32768, 65535])
    fitting = ends[ends + intercept <= 32767]
    attributes: dict[str, Any] = {"PixelRepresentation": int(signed), "RescaleIntercept": intercept}

    if fitting.size:
        path = write_native(tmp_path / "fits", fitting.astype("u2").reshape(1, 1, -1), **attributes)
        expected = np.maximum(fitting + intercept, -1024).reshape(1, 1, -1)
        np.testing.assert_array_equal(decoded(records(path), tmp_path / "stack"), expected)
    if fitting.size < ends.size:
        path = write_native(tmp_path / "wide", ends.astype("u2").reshape(1, 1, -1), **attributes)
        with pytest.raises(WideRangeError):
            decoded(records(path), tmp_path / "stack")
        np.testing.assert_array_equal(
            decoded(records(path), tmp_path / "stack", "<f4"), np.maximum(ends + intercept, -1024).reshape(1, 1, -1)
        )


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [("1", "-1024", "<i2"), ("1.0", "-8.00", "<i2"), ("0.5", "-1024", "<f4"), ("1", "0.25", "<f4"), ("-2", "0", "<f4")],
)
def test_the_rescale_decides_how_voxels_are_kept(tmp_path: Path, slope: str, intercept: str, dtype: StackType) -> None:
    stored = np.arange(60, dtype=np.uint16).reshape(3, 4, 5) * 40
    path = write_native(tmp_path / "file", stored, RescaleSlope=slope, RescaleIntercept=intercept)
    slices = records(path)

    assert stack_dtype(slices) == dtype
    expected = np.maximum(stored * float(slope) + float(intercept), -1024).astype(np.float32)
    np.testing.assert_array_equal(decoded(slices, tmp_path / "stack", dtype), expected)
    assert stack_dtype([*slices, replace(slices[0], rescale=(1.0, 0.5))]) == "<f4"


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_columns", [False, True])
def test_slices_are_transposed_and_then_flipped(
    tmp_path: Path, transpose: bool, flip_rows: bool, flip_columns: bool
) -> None:
    stored = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    path = write_native(tmp_path / "file", stored)

    voxels = decoded(records(path), tmp_path / "stack", in_plane=InPlane(transpose, flip_rows, flip_columns))

    expected = stored.transpose(0, 2, 1) if transpose else stored
    expected = expected[:, ::-1] if flip_rows else expected
    np.testing.assert_array_equal(voxels, expected[:, :, ::-1] if flip_columns else expected)


def test_slices_go_to_their_numbers_and_leave_the_others_alone(tmp_path: Path) -> None:
    first = records(write_native(tmp_path / "first", np.full((3, 2, 2), [[[1]], [[2]], [[3]]], np.uint16)))
    second = records(write_native(tmp_path / "second", np.full((1, 2, 2), 4, np.uint16)))
    target = tmp_path / "stack"
    np.full((6, 2, 2), -7, "<i2").tofile(target)

    done = [one.number for one in decode_into([first[2], second[0], first[0]], [4, 0, 2], AS_IT_IS, target, "<i2")]

    assert done == [4, 0, 2]
    assert np.fromfile(target, "<i2").reshape(6, 4)[:, 0].tolist() == [4, -7, 1, -7, 3, -7]


def test_one_slice_is_in_memory_at_a_time(tmp_path: Path) -> None:
    slice_bytes = 256 * 256 * 2
    slices = records(write_native(tmp_path / "file", np.zeros((40, 256, 256), np.uint16)))
    target = tmp_path / "stack"
    target.write_bytes(bytes(40 * slice_bytes))

    tracemalloc.start()
    for _ in decode_into(slices, range(40), InPlane(flip_columns=True), target, "<i2"):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * slice_bytes


def test_pixels_that_are_not_wholly_there_are_refused_by_position(tmp_path: Path) -> None:
    path = write_native(tmp_path / "SECRET", np.zeros((2, 4, 4), np.uint16))
    one, two = records(path)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-1])
    cut_entry = replace(two.entry, path=tmp_path / "cut")
    layout = two.pixels
    damaged = {
        "cut short": replace(two, entry=cut_entry),
        "declared too short": replace(two, pixels=replace(layout, length=32 + 31)),
        "no such frame": replace(two, frame=2),
        "no pixel data": replace(two, pixels=replace(layout, offset=None, length=None)),
        "more rows than pixels": replace(one, rows=60_000, columns=60_000),
        "contradicting bits": replace(two, pixels=replace(layout, bits_stored=17, high_bit=16)),
        "contradicting high bit": replace(two, pixels=replace(layout, bits_stored=12, high_bit=10)),
        "unstated bits": replace(two, pixels=PixelLayout(None, None, None, False, 2, layout.offset, layout.length)),
        "odd allocation": replace(two, pixels=replace(layout, bits_allocated=12, bits_stored=12, high_bit=11)),
        "colour": replace(two, one_grey_channel=False),
        "no rescale": replace(two, rescale=None),
    }
    target = tmp_path / "stack"
    target.write_bytes(bytes(64))

    for name, header in damaged.items():
        with pytest.raises(UndecodablePixelsError) as refusal:
            list(decode_into([header], [1], AS_IT_IS, target, "<i2"))
        assert "the file at position 3" in refusal.value.detail, name
        assert "SECRET" not in refusal.value.detail
    assert target.read_bytes() == bytes(64)


@pytest.mark.parametrize("rescale", [(1e300, 1e300), (1e-300, -1e300), (-1e308, 1e308), (1e306, 0.0)])
def test_a_rescale_beyond_all_numbers_gives_no_infinite_voxels(tmp_path: Path, rescale: tuple[float, float]) -> None:
    header = records(write_native(tmp_path / "file", np.full((1, 4, 4), 60_000, np.uint16)))[0]
    target = tmp_path / "stack"
    target.write_bytes(bytes(64))

    try:
        decoded_slices = list(decode_into([replace(header, rescale=rescale)], [0], AS_IT_IS, target, "<f4"))
    except UndecodablePixelsError:
        assert target.read_bytes() == bytes(64)
    else:
        assert np.isfinite(decoded_slices[0].slice_hu).all()
