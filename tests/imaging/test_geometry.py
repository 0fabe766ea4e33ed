"""Order, distances and canonical axes from positions and orientation alone."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.imaging.slice_records import levels
from trauma_api.errors import InputError
from trauma_api.imaging.geometry import (
    Placement,
    StackGeometry,
    apply_in_plane,
    canonical,
    orientation_of,
    place,
    stack_geometry,
    unit_directions,
)
from trauma_api.imaging.measure import measure_hemorrhage
from trauma_api.imaging.volume import CTVolume

ROWS, COLUMNS = 20, 24
SPACING_YX_MM = (2.0, 1.5)


def positions(levels_mm: list[float], step: tuple[float, float, float] = (0.0, 0.0, -1.0)) -> NDArray[np.float64]:
    return np.asarray(np.array([10.0, -20.0, 300.0]) + np.outer(levels_mm, step), dtype=np.float64)


def axial(levels_mm: list[float]) -> StackGeometry:
    return stack_geometry(positions(levels_mm), unit_directions((1, 0, 0, 0, 1, 0)), SPACING_YX_MM)


def code_of(levels_mm: list[float]) -> str:
    with pytest.raises(InputError) as refusal:
        axial(levels_mm)
    return refusal.value.code


def turned(axis: tuple[float, float, float], degrees: float, orientation: tuple[float, ...]) -> tuple[float, ...]:
    """An orientation turned around an axis (Rodrigues)."""
    unit = np.array(axis) / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), -unit)
    angle = math.radians(degrees)
    matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return tuple(float(value) for value in (np.reshape(orientation, (2, 3)) @ matrix.T).ravel())


WAYS: dict[str, tuple[float, ...]] = {
    "supine": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "rows mirrored": (-1, 0, 0, 0, 1, 0),
    "upside down": (1, 0, 0, 0, -1, 0),
    "right side down": (0, 1, 0, -1, 0, 0),
    "left side down": (0, -1, 0, 1, 0, 0),
    "transposed": (0, 1, 0, 1, 0, 0),
    "oblique by 10 degrees": turned((1, 1, 0), 10, (1, 0, 0, 0, 1, 0)),
    "oblique by 28 degrees, prone": turned((1, -2, 0), 28, (-1, 0, 0, 0, -1, 0)),
    "turned in the plane by 30 degrees": turned((0, 0, 1), 30, (1, 0, 0, 0, 1, 0)),
    "turned in the plane by 60 degrees": turned((0, 0, 1), 60, (1, 0, 0, 0, 1, 0)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sent", ["head first", "feet first", "shuffled"])
@pytest.mark.parametrize("tilted", [False, True])
def test_placing_slice_by_slice_is_the_same_as_turning_the_whole_stack(way: str, sent: str, tilted: bool) -> None:
    directions = unit_directions(WAYS[way])
    normal = np.cross(directions[0], directions[1])
    step = (0.1, 0.2, -1.0) if tilted else tuple(normal * -np.sign(normal[2]))
    order = {"head first": [0, 1, 2, 3, 4], "feet first": [4, 3, 2, 1, 0], "shuffled": [3, 0, 4, 1, 2]}[sent]
    images = np.arange(5 * ROWS * COLUMNS, dtype=np.int16).reshape(5, ROWS, COLUMNS)[order]
    placed = positions([0.0, 3.0, 6.0, 9.0, 12.0], step)[order]

    geometry = stack_geometry(placed, directions, SPACING_YX_MM)
    placement = place(geometry, ROWS, COLUMNS)
    volume, affine = canonical(images[list(geometry.order)], geometry.affine_lps)

    one_by_one = np.stack([apply_in_plane(images[index], placement.in_plane) for index in placement.order])
    np.testing.assert_array_equal(one_by_one, volume)
    assert placement.shape_yx == volume.shape[1:]
    assert placement.affine_lps is not None
    np.testing.assert_array_equal(placement.affine_lps, affine)
    # Head to feet, front to back, right to left.
    assert affine[2, 0] < 0
    assert affine[1, 1] > 0
    assert affine[0, 2] > 0
    assert_every_corner_keeps_its_place(images, placed, directions, placement, one_by_one)


def assert_every_corner_keeps_its_place(
    images: NDArray[np.int16],
    placed: NDArray[np.float64],
    directions: NDArray[np.float64],
    placement: Placement,
    volume: NDArray[np.int16],
) -> None:
    assert placement.affine_lps is not None
    for index, row, column in [(0, 0, 0), (4, 0, COLUMNS - 1), (2, ROWS - 1, 0), (1, ROWS - 1, COLUMNS - 1)]:
        expected = placed[index] + directions[1] * row * SPACING_YX_MM[0] + directions[0] * column * SPACING_YX_MM[1]
        found = np.argwhere(volume == images[index, row, column])
        assert len(found) == 1
        np.testing.assert_allclose(placement.affine_lps @ [*found[0], 1], [*expected, 1], atol=1e-9)


def test_a_turned_image_is_a_view() -> None:
    image = np.zeros((4, 6), dtype=np.int16)
    placement = place(
        stack_geometry(positions([0.0, 3.0]), unit_directions(WAYS["right side down"]), SPACING_YX_MM), 4, 6
    )
    view = apply_in_plane(image, placement.in_plane)
    assert view.shape == placement.shape_yx == (6, 4)
    assert placement.spacing_yx_mm == (1.5, 2.0)
    assert np.shares_memory(view, image)


def test_centres_run_from_the_head_along_the_normal() -> None:
    tilt = math.radians(20)
    directions = unit_directions((1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)))
    geometry = stack_geometry(positions([10.0, 5.0, 0.0]), directions, SPACING_YX_MM)
    assert geometry.order == (2, 1, 0)
    assert geometry.slice_centres_mm == pytest.approx((0.0, 5 * math.cos(tilt), 10 * math.cos(tilt)))
    assert geometry.spacing_zyx_mm == pytest.approx((5 * math.cos(tilt), 2.0, 1.5))


def test_one_slice_has_no_distance() -> None:
    placement = place(axial([0.0]), ROWS, COLUMNS)
    assert placement.affine_lps is None
    assert placement.spacing_zyx_mm is None
    assert placement.spacing_yx_mm == SPACING_YX_MM
    assert placement.slice_centres_mm == (0.0,)


@pytest.mark.parametrize(
    "distances",
    [
        [5.0],
        [1.0, 1.04, 0.96, 1.0],
        [0.62, 0.63, 0.62, 0.63],
        # 1.25 mm apart, with positions rounded to tenths.
        [1.2, 1.3, 1.3, 1.2, 1.2, 1.3],
    ],
)
def test_small_differences_are_even(distances: list[float]) -> None:
    geometry = axial(levels(*distances))
    assert geometry.slice_thickness_mm is None
    assert geometry.spacing_zyx_mm == pytest.approx((sum(distances) / len(distances), *SPACING_YX_MM))


@pytest.mark.parametrize(
    ("distances", "thickness"),
    [
        ([5.0] * 3 + [2.5] * 3, [5.0, 5.0, 5.0, 3.75, 2.5, 2.5, 2.5]),
        ([2.5] * 3 + [3.75] + [5.0] * 3, [2.5, 2.5, 2.5, 3.125, 4.375, 5.0, 5.0, 5.0]),
        ([2.5] * 3 + [5.0] * 3 + [2.5] * 3, [2.5, 2.5, 2.5, 3.75, 5.0, 5.0, 3.75, 2.5, 2.5, 2.5]),
    ],
)
def test_blocks_of_different_distance_give_each_slice_its_own_thickness(
    distances: list[float], thickness: list[float]
) -> None:
    geometry = axial(levels(*distances))
    assert geometry.slice_thickness_mm == pytest.approx(thickness)
    assert geometry.spacing_zyx_mm == pytest.approx((sum(thickness) / len(thickness), *SPACING_YX_MM))
    assert geometry.slice_centres_mm == pytest.approx(levels(*distances))


def test_thickness_follows_the_slices_whatever_the_order_sent() -> None:
    sent = levels(*[5.0] * 3, *[2.5] * 3)[::-1]
    assert axial(sent).slice_thickness_mm == pytest.approx([5.0, 5.0, 5.0, 3.75, 2.5, 2.5, 2.5])


@pytest.mark.parametrize(
    ("distances", "sentence"),
    [
        ([2.5, 2.5, 5.0, 2.5], "1 slice is missing between the slices with index 2 and 3 "),
        ([2.5, 2.5, 10.0, 2.5], "3 slices are missing between the slices with index 2 and 3 "),
        ([2.5, 2.5, 2.5, 7.5], "2 slices are missing between the slices with index 3 and 4 "),
        ([2.5] * 4 + [5.0, 5.0] + [2.5] * 4, "2 slices are missing in 2 places, first between"),
        ([2.5] * 4 + [5.0, 10.0] + [2.5] * 4, "2 places, first between the slices with index 4 and 5 "),
        ([2.5] * 4 + [15.0] + [5.0] * 4, "2 slices are missing between the slices with index 4 and 5 "),
        ([2.5] * 4 + [6.0] + [5.0] * 4, "1 slice is missing between the slices with index 4 and 5 "),
        ([2.5, 5.0, 2.5, 5.0, 2.5, 5.0], "3 slices are missing in 3 places"),
    ],
)
def test_a_gap_is_refused_and_says_where_it_is(distances: list[float], sentence: str) -> None:
    for sent in (levels(*distances), levels(*distances)[::-1]):
        with pytest.raises(InputError) as refusal:
            axial(sent)
        assert refusal.value.code == "missing-slices"
        assert sentence in refusal.value.detail
        assert "counted from 0 at the head" in refusal.value.detail


@pytest.mark.parametrize(
    ("distances", "code"),
    [
        ([3.0, 0.0, 3.0], "duplicate-slice-positions"),
        ([3.0, 6.0], "irregular-spacing"),
        ([3.0, 3.1, 2.9, 3.0], "irregular-spacing"),
        ([2.0, 5.0, 3.0, 7.0, 1.0], "irregular-spacing"),
        ([2.5, 2.5, 3.0, 2.5, 2.5], "irregular-spacing"),
        ([5.0, 5.0, 2.5, 2.5, 2.5], "missing-slices"),
        ([2.5, 2.5, 5.0, 5.0, 5.0], "irregular-spacing"),
        ([2.5] * 3 + [1.0] + [5.0] * 3, "irregular-spacing"),
        ([2.0**power for power in range(12)], "irregular-spacing"),
    ],
)
def test_what_is_no_grid_is_refused(distances: list[float], code: str) -> None:
    assert code_of(levels(*distances)) == code


@pytest.mark.parametrize("distances", [[3.0] * 4, [5.0] * 3 + [2.5] * 3])
def test_slices_beside_the_line_are_refused_and_sheared_ones_are_not(distances: list[float]) -> None:
    directions = unit_directions((1, 0, 0, 0, 1, 0))
    sheared = positions(levels(*distances), (0.0, 0.3, -1.0))
    assert stack_geometry(sheared, directions, SPACING_YX_MM).spacing_zyx_mm is not None

    sheared[2, 0] += 1.0
    with pytest.raises(InputError) as refusal:
        stack_geometry(sheared, directions, SPACING_YX_MM)
    assert refusal.value.code == "irregular-spacing"


def test_a_shear_that_no_gantry_makes_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        stack_geometry(positions([0, 3, 6], (0.0, 1.2, -1.0)), unit_directions((1, 0, 0, 0, 1, 0)), SPACING_YX_MM)
    assert refusal.value.code == "irregular-spacing"


def test_orientations_have_names() -> None:
    for orientation, name in [
        (WAYS["oblique by 10 degrees"], "axial"),
        (turned((1, 0, 0), 40, WAYS["supine"]), "oblique"),
        ((1, 0, 0, 0, 0, -1), "coronal"),
        ((0, 1, 0, 0, 0, -1), "sagittal"),
    ]:
        directions = unit_directions(orientation)
        assert orientation_of(np.cross(directions[0], directions[1])) == name


def box_ml(placement: Placement, top_mm: float, bottom_mm: float) -> float:
    """Millilitres of a box of 20 x 30 mm in the plane, where slices have their centre between top and bottom."""
    assert placement.spacing_zyx_mm is not None
    probability = np.zeros((len(placement.order), *placement.shape_yx), dtype=np.uint8)
    inside = [top_mm < centre < bottom_mm for centre in placement.slice_centres_mm]
    probability[inside, 4:14, 2:22] = 255
    volume = CTVolume(probability.astype(np.int16), placement.affine_lps, placement.slice_thickness_mm)
    assert volume.voxel_ml_per_slice is not None
    ml = measure_hemorrhage(
        probability, placement.spacing_zyx_mm, 0.5, 0.3, 0.7, placement.slice_thickness_mm
    ).volume_ml
    assert ml == pytest.approx(float((probability.sum(axis=(1, 2)) / 255) @ volume.voxel_ml_per_slice))
    return ml


def test_a_box_across_a_change_of_slice_distance_measures_its_millilitres() -> None:
    placement = place(axial(levels(*[5.0] * 10, *[2.5] * 20)), ROWS, COLUMNS)
    # From 12.5 mm to 71.25 mm, both midway between slices: 58.75 x 20 x 30 mm.
    assert box_ml(placement, 12.5, 71.25) == pytest.approx(58.75 * 20 * 30 / 1000, rel=0.01)
    # In one block alone the mean distance would be wrong by more than a third.
    assert box_ml(placement, 12.5, 42.5) == pytest.approx(30 * 20 * 30 / 1000, rel=0.01)


def test_a_box_in_a_tilted_stack_of_blocks_measures_its_millilitres() -> None:
    tilt = math.radians(20)
    directions = unit_directions((1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)))
    table = levels(*[5.0] * 10, *[2.5] * 20)
    placement = place(stack_geometry(positions(table), directions, SPACING_YX_MM), ROWS, COLUMNS)
    assert placement.affine_lps is not None
    assert placement.affine_lps[:2, 0] == pytest.approx([0, 0])
    height = 58.75 * math.cos(tilt)
    assert box_ml(placement, 12.5 * math.cos(tilt), 71.25 * math.cos(tilt)) == pytest.approx(
        height * 20 * 30 / 1000, rel=0.01
    )
