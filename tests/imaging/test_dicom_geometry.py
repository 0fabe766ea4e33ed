"""Order, spacing and canonical axes come from positions and orientation alone."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.imaging.series_builder import AXIAL, SeriesBuilder, ramp, read, stacked
from trauma_api.errors import InputError
from trauma_api.imaging.measure import measure_hemorrhage
from trauma_api.imaging.volume import CTVolume, ImageStack


def ct(stack: ImageStack) -> CTVolume:
    assert isinstance(stack, CTVolume)
    return stack


def test_order_and_spacing_come_from_positions_whatever_the_file_order_numbers_and_thickness_say(
    tmp_path: Path,
) -> None:
    voxels = ramp()
    paths = SeriesBuilder(
        voxels, stacked(5, slice_mm=3.0), overrides={"InstanceNumber": 1, "SliceThickness": 8.0}
    ).write(tmp_path / "in", names=["z", "a", "m", "b", "c"])
    shuffled = [paths[index] for index in (3, 0, 4, 2, 1)]

    volume = ct(read(shuffled, tmp_path / "scratch").stack)

    np.testing.assert_array_equal(volume.voxels_zyx_hu, voxels)
    assert volume.voxels_zyx_hu.dtype == np.int16
    assert volume.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.5))


def test_affine_maps_the_first_voxel_to_the_position_of_the_top_slice(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(), stacked(5)).write(tmp_path / "in")

    affine = ct(read(paths, tmp_path / "scratch").stack).affine_lps

    assert affine is not None
    # Slice 1, row 2, column 3: z falls by 3, y grows by 2 * 0.8, x by 3 * 0.5 from (-10, -20, 100).
    np.testing.assert_allclose(affine @ [1, 2, 3, 1], [-8.5, -18.4, 97.0, 1])


def _as_scanned(voxels: NDArray[np.int16], way: str) -> SeriesBuilder:
    """The same patient written by scanners that run their axes in other ways. 5 slices, 6 rows, 4 columns."""
    x0, y0, right, bottom = -10.0, -20.0, -10.0 + 3 * 0.5, -20.0 + 5 * 0.8
    levels = [100.0 - 3.0 * index for index in range(5)]
    if way == "feet first":
        return SeriesBuilder(voxels[::-1], [(x0, y0, z) for z in reversed(levels)])
    if way == "rows mirrored":
        return SeriesBuilder(voxels[:, :, ::-1], [(right, y0, z) for z in levels], (-1, 0, 0, 0, 1, 0))
    if way == "prone":
        return SeriesBuilder(voxels[:, ::-1, ::-1], [(right, bottom, z) for z in levels], (-1, 0, 0, 0, -1, 0))
    return SeriesBuilder(
        voxels.transpose(0, 2, 1), [(x0, y0, z) for z in levels], (0, 1, 0, 1, 0, 0), spacing_yx_mm=(0.5, 0.8)
    )


@pytest.mark.parametrize("way", ["feet first", "rows mirrored", "prone", "transposed"])
def test_any_way_of_scanning_gives_the_same_canonical_volume(tmp_path: Path, way: str) -> None:
    voxels = ramp()
    expected = ct(read(SeriesBuilder(voxels, stacked(5)).write(tmp_path / "plain"), tmp_path / "s1").stack)

    volume = ct(read(_as_scanned(voxels, way).write(tmp_path / "other"), tmp_path / "s2").stack)

    np.testing.assert_array_equal(volume.voxels_zyx_hu, expected.voxels_zyx_hu)
    assert volume.affine_lps is not None
    assert expected.affine_lps is not None
    np.testing.assert_allclose(volume.affine_lps, expected.affine_lps, atol=1e-9)


def _box_ml(volume: CTVolume) -> float:
    """Millilitres of all voxels at 60 HU."""
    assert volume.spacing_zyx_mm is not None
    probability = np.where(volume.voxels_zyx_hu == 60, 255, 0).astype(np.uint8)
    return measure_hemorrhage(probability, volume.spacing_zyx_mm, 0.5, 0.3, 0.7).volume_ml


def test_box_of_known_size_measures_its_millilitres(tmp_path: Path) -> None:
    voxels = np.full((12, 24, 32), -1000, dtype=np.int16)
    voxels[1:11, 2:22, 1:31] = 60
    paths = SeriesBuilder(voxels, stacked(12, slice_mm=2.0), spacing_yx_mm=(0.8, 0.5)).write(tmp_path / "in")

    # 10 * 20 * 30 voxels of 2.0 * 0.8 * 0.5 mm = 0.8 mm3 are 4800 mm3.
    assert _box_ml(ct(read(paths, tmp_path / "scratch").stack)) == pytest.approx(4.8)


def test_gantry_tilt_shears_the_stack_and_measures_the_distance_along_the_normal(tmp_path: Path) -> None:
    tilt = math.radians(20)
    voxels = np.full((6, 8, 8), -1000, dtype=np.int16)
    voxels[1:5, 2:7, 1:6] = 60
    paths = SeriesBuilder(
        voxels, stacked(6, slice_mm=5.0), (1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)), spacing_yx_mm=(2.0, 2.0)
    ).write(tmp_path / "in")

    volume = ct(read(paths, tmp_path / "scratch").stack)

    assert volume.affine_lps is not None
    np.testing.assert_allclose(volume.affine_lps[:3, 0], [0, 0, -5.0], atol=1e-9)
    assert volume.spacing_zyx_mm == pytest.approx((5 * math.cos(tilt), 2.0, 2.0))
    # 4 * 5 * 5 voxels of 2 * 2 * 4.698 mm = 18.794 mm3 are 1879.4 mm3.
    assert _box_ml(volume) == pytest.approx(1.8794, abs=1e-4)


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([0, 3, 3, 6, 9], "duplicate-slice-positions"),
        ([0, 3, 9, 12, 15], "missing-slices"),
        ([0, 3, 6.1, 9, 12], "irregular-spacing"),
    ],
)
def test_stacks_that_are_no_regular_grid_are_refused(tmp_path: Path, levels: list[float], code: str) -> None:
    paths = SeriesBuilder(ramp(), [(0, 0, -level) for level in levels]).write(tmp_path / "in")

    with pytest.raises(InputError) as refusal:
        read(paths, tmp_path / "scratch")

    assert refusal.value.code == code


def test_distances_within_tolerance_are_accepted(tmp_path: Path) -> None:
    # 0.04 mm off is under the 0.05 mm that is always allowed.
    paths = SeriesBuilder(ramp(), [(0, 0, -level) for level in (0, 1, 2.04, 3, 4)]).write(tmp_path / "in")

    assert ct(read(paths, tmp_path / "scratch").stack).spacing_zyx_mm == pytest.approx((1.0, 0.8, 0.5))


def test_slices_shifted_sideways_are_refused(tmp_path: Path) -> None:
    positions = [(0, 0, 0), (0, 0, -3), (4, 0, -6), (0, 0, -9), (0, 0, -12)]

    with pytest.raises(InputError) as refusal:
        read(SeriesBuilder(ramp(), positions).write(tmp_path / "in"), tmp_path / "scratch")

    assert refusal.value.code == "irregular-spacing"


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not-axial"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "missing-geometry"),
        ({"ImageOrientationPatient": None}, "missing-geometry"),
        ({"ImagePositionPatient": None}, "missing-geometry"),
        ({"PixelSpacing": None}, "missing-geometry"),
        ({"PixelSpacing": [0, 0.5]}, "missing-geometry"),
    ],
)
def test_geometry_that_is_missing_or_not_axial_is_refused(
    tmp_path: Path, overrides: dict[str, object], code: str
) -> None:
    paths = SeriesBuilder(ramp(), stacked(5), overrides=overrides).write(tmp_path / "in")

    with pytest.raises(InputError) as refusal:
        read(paths, tmp_path / "scratch")

    assert refusal.value.code == code


def test_one_slice_alone_has_no_spacing_and_says_so(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(slices=1), stacked(1), AXIAL).write(tmp_path / "in")

    study = read(paths, tmp_path / "scratch")

    assert ct(study.stack).affine_lps is None
    assert study.stack.spacing_zyx_mm is None
    assert [warning.code for warning in study.warnings] == ["no-slice-distance"]
