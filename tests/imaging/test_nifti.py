"""NIfTI volumes come out as the same canonical volume whatever their axes; what is no CT is refused."""

import hashlib
import itertools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tests.imaging.series_builder import ramp
from trauma_api.errors import InputError
from trauma_api.imaging.geometry import canonical
from trauma_api.imaging.nifti import NiftiStack, nifti_series_id, read_nifti
from trauma_api.imaging.slices import Entry
from trauma_api.imaging.study import ReadLimits

# Index (i, j, k) to RAS (x right, y front, z head): i runs to the left, j to the front, k to the head.
LAS = np.array([[-0.5, 0, 0, 10], [0, 0.8, 0, 16], [0, 0, 3, 88], [0, 0, 0, 1]], dtype=np.float64)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SMALL = ReadLimits(min_side=2)


def as_entry(path: Path) -> Entry:
    return Entry(0, None, path, "nifti", hashlib.sha256(path.read_bytes()).hexdigest())


def nifti_image(voxels_ijk: NDArray[np.generic], affine: NDArray[np.float64] = LAS, unit: str = "mm") -> Any:
    image = nib.Nifti1Image(voxels_ijk, affine)
    image.header.set_xyzt_units(unit)
    return image


def write_nifti(
    path: Path, voxels_ijk: NDArray[np.generic], affine: NDArray[np.float64] = LAS, unit: str = "mm"
) -> Entry:
    path.write_bytes(nifti_image(voxels_ijk, affine, unit).to_bytes())
    return as_entry(path)


def as_stored(canonical_zyx: NDArray[np.int16]) -> NDArray[np.int16]:
    """From canonical order to i towards the left, j towards the front, k towards the head."""
    return np.ascontiguousarray(canonical_zyx.transpose(2, 1, 0)[:, ::-1, ::-1])


def voxels_of(stack: NiftiStack, target: Path) -> NDArray[np.number]:
    voxels: NDArray[np.number] = np.fromfile(target, stack.dtype).reshape(stack.shape_zyx)
    return voxels


def refusal_code(entries: list[Entry], target: Path, limits: ReadLimits = SMALL) -> str:
    with pytest.raises(InputError) as refusal:
        read_nifti(entries, target, limits)
    return refusal.value.code


def test_axes_are_brought_into_canonical_order_and_ras_becomes_lps(tmp_path: Path) -> None:
    entry, target = write_nifti(tmp_path / "ct", as_stored(ramp())), tmp_path / "stack"

    stack = read_nifti([entry], target, SMALL)

    np.testing.assert_array_equal(voxels_of(stack, target), ramp())
    assert stack.dtype == "<i2"
    assert target.stat().st_size == ramp().nbytes
    # The canonical first voxel is i = 0, j = 5, k = 4: RAS (10, 16 + 5 * 0.8, 88 + 4 * 3), so LPS (-10, -20, 100).
    expected = np.array([[0, 0, 0.5, -10], [0, 0.8, 0, -20], [-3, 0, 0, 100], [0, 0, 0, 1]], dtype=np.float64)
    np.testing.assert_allclose(np.array(stack.affine_lps), expected, atol=1e-6)
    (series,) = stack.series
    assert series.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.5))
    assert (series.slice_count, series.rows, series.columns) == (5, 6, 4)
    assert series.series_id == entry.digest[:12] == nifti_series_id(entry)
    assert stack.entry == entry
    assert stack.warnings == ()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_every_order_and_direction_of_axes_gives_the_same_volume(
    tmp_path: Path, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    """Sheared as well, like a tilted gantry. `canonical`, which has the whole volume in memory, is the reference."""
    affine = LAS.copy()
    affine[1, 2] = 0.4
    voxels = as_stored(ramp())
    moved = affine[:, [*axes, 3]].copy()
    stored = voxels.transpose(axes)
    for axis, flip in enumerate(flips):
        if flip:
            moved[:, 3] += moved[:, axis] * (stored.shape[axis] - 1)
            moved[:, axis] *= -1
            stored = np.flip(stored, axis)
    target = tmp_path / "stack"

    stack = read_nifti([write_nifti(tmp_path / "ct", stored, moved)], target, SMALL)

    expected, expected_affine = canonical(voxels, RAS_TO_LPS @ affine)
    np.testing.assert_array_equal(voxels_of(stack, target), expected)
    np.testing.assert_allclose(stack.affine_lps, expected_affine, atol=1e-5)


def test_scaled_values_are_read_as_scaled_and_kept_as_int16_where_whole(tmp_path: Path) -> None:
    stored = (np.arange(120, dtype=np.uint8)).reshape(4, 6, 5)
    target = tmp_path / "stack"
    for slope, inter, dtype in ((16.0, -1100.0, "<i2"), (0.25, -1010.0, "<f4"), (400.0, -1100.0, "<f4")):
        content = bytearray(nifti_image(stored).to_bytes())
        content[112:120] = struct.pack("<2f", slope, inter)  # scl_slope and scl_inter
        (tmp_path / "ct").write_bytes(content)

        stack = read_nifti([as_entry(tmp_path / "ct")], target, SMALL)

        assert stack.dtype == dtype
        expected = np.maximum(stored * slope + inter, -1024)[:, ::-1, ::-1].transpose(2, 1, 0)
        np.testing.assert_array_equal(voxels_of(stack, target), expected)


def test_the_result_crosses_a_process_boundary_as_json(tmp_path: Path) -> None:
    stack = read_nifti([write_nifti(tmp_path / "ct", as_stored(ramp()))], tmp_path / "stack", SMALL)
    adapter = TypeAdapter(NiftiStack)

    assert adapter.validate_json(adapter.dump_json(stack)) == stack


def test_a_volume_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    voxels = rng.normal(0, 500, (192, 192, 192)).astype(np.float64)
    entry = write_nifti(tmp_path / "ct", voxels)
    del voxels

    tracemalloc.start()
    read_nifti([entry], tmp_path / "stack", ReadLimits())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert entry.path.stat().st_size > 56e6
    assert peak < 32e6


def test_unstated_units_are_taken_as_millimetres_with_a_warning(tmp_path: Path) -> None:
    entry = write_nifti(tmp_path / "ct", as_stored(ramp()), unit="unknown")

    stack = read_nifti([entry], tmp_path / "stack", SMALL)

    assert [warning.code for warning in stack.warnings] == ["nifti-units-unknown"]


def test_a_label_map_beside_a_ct_is_left_out(tmp_path: Path) -> None:
    ct = write_nifti(tmp_path / "ct", as_stored(ramp()))
    labels = write_nifti(tmp_path / "labels", np.ones((4, 6, 5), dtype=np.uint8))

    stack = read_nifti([labels, ct], tmp_path / "stack", SMALL)

    assert [summary.reason for summary in stack.series] == ["not-hu", "selected"]
    assert stack.entry == ct


def test_a_fourth_axis_of_length_one_is_a_volume_all_the_same(tmp_path: Path) -> None:
    entry, target = write_nifti(tmp_path / "ct", as_stored(ramp())[..., None]), tmp_path / "stack"

    stack = read_nifti([entry], target, SMALL)

    np.testing.assert_array_equal(voxels_of(stack, target), ramp())


def rotated(degrees: float, plane: tuple[int, int] = (1, 2)) -> NDArray[np.float64]:
    turn = np.eye(4)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[np.ix_(plane, plane)] = [[cosine, -sine], [sine, cosine]]
    return np.asarray(turn @ LAS)


def test_what_is_no_ct_volume_is_refused_by_code(tmp_path: Path) -> None:
    ct = as_stored(ramp())
    cases = {
        "not-hu": write_nifti(tmp_path / "labels", np.ones((4, 6, 5), dtype=np.uint8)),
        "nifti-not-3d": write_nifti(tmp_path / "4d", np.full((4, 4, 4, 2), -500, dtype=np.int16)),
        "nifti-units": write_nifti(tmp_path / "micron", ct, unit="micron"),
        "not-axial": write_nifti(tmp_path / "oblique", ct, rotated(40)),
    }
    unplaced = nifti_image(ct)
    unplaced.set_qform(None, code=0)
    unplaced.set_sform(None, code=0)
    (tmp_path / "unplaced").write_bytes(unplaced.to_bytes())
    cases["nifti-no-orientation"] = as_entry(tmp_path / "unplaced")
    (tmp_path / "cut").write_bytes((tmp_path / "oblique").read_bytes()[:-1])
    cases["malformed-nifti"] = as_entry(tmp_path / "cut")

    for code, entry in cases.items():
        assert refusal_code([entry], tmp_path / "stack") == code
    assert not (tmp_path / "stack").exists()


def test_values_that_are_no_numbers_are_not_hounsfield_units(tmp_path: Path) -> None:
    holes = ramp().astype(np.float32)
    holes[2, 3, 1] = np.nan
    colours = np.zeros((4, 6, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

    for name, voxels in {"holes": holes, "colours": colours, "waves": ramp().astype(np.complex64)}.items():
        assert refusal_code([write_nifti(tmp_path / name, voxels)], tmp_path / "stack") == "not-hu"


def test_sizes_are_limited_in_the_patient_s_axes(tmp_path: Path) -> None:
    """Rows and columns are the canonical ones, whatever axis they are stored along."""
    tall = write_nifti(tmp_path / "tall", np.full((40, 8, 8), -500, np.int16), LAS[:, [2, 0, 1, 3]])
    target = tmp_path / "stack"

    assert read_nifti([tall], target, ReadLimits(min_side=8, max_side=8)).shape_zyx == (40, 8, 8)
    assert refusal_code([tall], target, ReadLimits(min_side=8, max_side=7)) == "image-too-large"
    assert refusal_code([tall], target, ReadLimits(min_side=9)) == "image-too-small"
    assert refusal_code([tall], target, ReadLimits(min_side=8, max_frames=39)) == "image-too-large"
    assert refusal_code([tall], target, ReadLimits(min_side=8, max_voxels=40 * 64 - 1)) == "image-too-large"


def conflicting(path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64]) -> Entry:
    image = nifti_image(as_stored(ramp()))
    image.set_sform(sform, code=1)
    image.set_qform(qform, code=1)
    path.write_bytes(image.to_bytes())
    return as_entry(path)


def test_qform_and_sform_that_disagree_are_refused(tmp_path: Path) -> None:
    scaled = LAS @ np.diag([1.0, 1.0, 1.02, 1.0])
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0]) @ LAS
    half_turn = rotated(180, (0, 1))
    stale_pixdim = nifti_image(as_stored(ramp()))
    stale_pixdim.set_qform(None, code=0)
    stale_pixdim.header["pixdim"][3] = 5.0
    (tmp_path / "stale").write_bytes(stale_pixdim.to_bytes())

    entries = [
        conflicting(tmp_path / str(index), LAS, form) for index, form in enumerate((scaled, mirrored, half_turn))
    ]
    for entry in (*entries, as_entry(tmp_path / "stale")):
        assert refusal_code([entry], tmp_path / "stack") == "nifti-affine-conflict"


def test_a_small_turn_between_qform_and_sform_is_no_conflict(tmp_path: Path) -> None:
    entry = conflicting(tmp_path / "ct", rotated(2), LAS @ np.diag([1.0, 1.005, 1.0, 1.0]))

    assert read_nifti([entry], tmp_path / "stack", SMALL).shape_zyx == (5, 6, 4)


def test_two_ct_volumes_are_refused(tmp_path: Path) -> None:
    one = write_nifti(tmp_path / "one", as_stored(ramp()))
    two = write_nifti(tmp_path / "two", as_stored(ramp() + np.int16(1)))

    assert refusal_code([one, two], tmp_path / "stack") == "several-volumes"
