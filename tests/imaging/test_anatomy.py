"""Statistics of drawn slices whose sizes are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from trauma_api.imaging.anatomy import BodyStats, SliceStats, slice_stats

SIDE, PIXEL_MM = 256, 2.0
SPACING_YX_MM = (PIXEL_MM, PIXEL_MM)

Slice = NDArray[np.int16]


def air() -> Slice:
    """An empty field of 512 mm."""
    return np.full((SIDE, SIDE), -1000, dtype=np.int16)


def ellipse(hu: Slice, centre_yx_mm: tuple[float, float], half_axes_yx_mm: tuple[float, float], value: int) -> Slice:
    """Draw an ellipse; (0, 0) is the middle of the field."""
    y, x = ((np.arange(SIDE) - (SIDE - 1) / 2) * PIXEL_MM for _ in range(2))
    (cy, cx), (ay, ax) = centre_yx_mm, half_axes_yx_mm
    hu[((y - cy) / ay)[:, None] ** 2 + ((x - cx) / ax)[None, :] ** 2 <= 1] = value
    return hu


def plain_trunk() -> Slice:
    """Fat around soft tissue, without lungs or bones."""
    return ellipse(ellipse(air(), (0, 0), (115, 165), -100), (0, 0), (100, 150), 50)


def abdomen() -> Slice:
    """A trunk with a spine and some bowel gas."""
    return ellipse(ellipse(plain_trunk(), (45, 0), (20, 22), 400), (-50, 40), (15, 25), -1000)


def chest() -> Slice:
    """Lungs on both sides of a heart, and a spine."""
    hu = ellipse(ellipse(plain_trunk(), (0, -80), (80, 60), -850), (0, 80), (80, 60), -850)
    return ellipse(hu, (50, 0), (20, 20), 400)


def hips() -> Slice:
    """A pelvis at the hip joints."""
    return ellipse(ellipse(plain_trunk(), (0, -85), (25, 22), 500), (0, 85), (25, 22), 500)


def head() -> Slice:
    """Brain in a skull."""
    return ellipse(ellipse(ellipse(air(), (0, 0), (95, 75), 40), (0, 0), (90, 70), 1000), (0, 0), (82, 62), 35)


def neck() -> Slice:
    """A vertebra with the airway before it."""
    hu = ellipse(ellipse(air(), (0, 0), (62, 60), -90), (0, 0), (56, 54), 50)
    return ellipse(ellipse(hu, (6, 0), (18, 22), 400), (-26, 0), (10, 9), -1000)


def legs() -> Slice:
    """Two thighs."""
    hu = air()
    for side_mm in (-90, 90):
        ellipse(ellipse(hu, (0, side_mm), (75, 70), 50), (0, side_mm), (14, 14), 900)
    return hu


def body_of(hu: Slice, spacing_yx_mm: tuple[float, float] = SPACING_YX_MM) -> BodyStats:
    """The body's statistics of a slice that has one."""
    body = slice_stats(hu, spacing_yx_mm).body
    assert body is not None
    return body


def test_size_of_a_body_is_measured_in_the_field_of_view() -> None:
    stats = slice_stats(abdomen(), SPACING_YX_MM)
    assert stats.body is not None
    assert stats.field_cm2 == pytest.approx(51.2**2)
    assert stats.body.area_cm2 == pytest.approx(np.pi * 11.5 * 16.5, rel=0.03)
    assert stats.body.width_mm == pytest.approx(330, abs=8)
    assert stats.body.depth_mm == pytest.approx(230, abs=8)
    assert stats.body.at_edge_share == 0


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shares_depend_neither_on_the_matrix_nor_on_the_size(factor: int) -> None:
    fine = np.repeat(np.repeat(chest(), factor, axis=0), factor, axis=1)
    same = body_of(fine, (PIXEL_MM / factor, PIXEL_MM / factor))
    small = body_of(fine, (PIXEL_MM / factor / 2, PIXEL_MM / factor / 2))
    assert small.area_cm2 == pytest.approx(same.area_cm2 / 4)
    assert (small.lung_left_share, small.bone) == (same.lung_left_share, same.bone)
    assert same.lung_left_share == pytest.approx(body_of(chest()).lung_left_share, abs=0.01)


def test_pixels_that_are_not_square_give_the_true_size() -> None:
    assert body_of(abdomen()[::2].copy(), (2 * PIXEL_MM, PIXEL_MM)).depth_mm == pytest.approx(230, abs=8)


def test_table_that_touches_the_back_is_left_out() -> None:
    hu = abdomen()
    hu[185:188, 20:236] = 100
    assert body_of(hu).width_mm == pytest.approx(330, abs=8)


def test_lungs_are_counted_on_their_sides_and_gas_is_no_lung() -> None:
    right_only = ellipse(chest(), (0, 80), (80, 60), 40)
    assert body_of(chest()).lung_left_share == pytest.approx(body_of(chest()).lung_right_share, rel=0.1)
    assert body_of(right_only).lung_right_share > 0.15
    assert body_of(right_only).lung_left_share == 0
    gas = body_of(ellipse(abdomen(), (-30, 0), (50, 120), -1000))
    assert gas.inner_air_share > 0.25
    assert gas.lung_right_share + gas.lung_left_share < 0.01


def test_airway_is_air_before_the_spine() -> None:
    assert body_of(neck()).airway_share == pytest.approx(np.pi * 10 * 9 / (np.pi * 62 * 60), rel=0.3)
    assert body_of(head()).airway_share == 0


def test_bone_is_placed() -> None:
    assert body_of(head()).bone.sectors == 1
    assert body_of(head()).bone.core_share == 0
    assert body_of(abdomen()).bone.sectors < 0.3
    assert body_of(abdomen()).bone.midline_down == pytest.approx((115 + 45) / 230, abs=0.03)
    assert body_of(abdomen()).bone.spine_share == pytest.approx(20 * 22 / (115 * 165), rel=0.2)
    assert body_of(hips()).bone.spine_share == 0
    assert min(body_of(hips()).bone.beside_shares) > 0.02
    assert body_of(legs()).bone.core_share == 1


def test_second_leg_is_a_like_piece_and_an_arm_is_not() -> None:
    arm = ellipse(abdomen(), (0, 215), (35, 30), 50)
    assert body_of(legs()).second_piece_ratio == pytest.approx(1, abs=0.05)
    assert 0 < body_of(arm).second_piece_ratio < 0.15


def test_body_that_is_cut_off_touches_the_edge() -> None:
    assert body_of(abdomen()[:, 80:-80].copy()).at_edge_share > 0.5


@pytest.mark.parametrize("value", [-1024, -1000])
def test_air_has_no_body(value: int) -> None:
    stats = slice_stats(np.full((64, 64), value, dtype=np.int16), (1.0, 1.0))
    assert stats.body is None
    assert stats.negative_share == stats.at_minimum_share == 1


@pytest.mark.parametrize("shape", [(16, 16), (16, 2048), (17, 33), (512, 512)])
@pytest.mark.parametrize("value", [-1024, 0, 3071])
def test_any_shape_and_constant_value_is_measured(shape: tuple[int, int], value: int) -> None:
    stats = slice_stats(np.full(shape, value, dtype=np.float32), (0.5, 0.7))
    assert stats.minimum_hu == stats.maximum_hu == value
    assert (stats.body is None) == (value == -1024)


@pytest.mark.parametrize("hu", [abdomen(), air()])
def test_statistics_survive_json(hu: Slice) -> None:
    adapter = TypeAdapter(SliceStats)
    stats = slice_stats(hu, SPACING_YX_MM)
    assert adapter.validate_json(adapter.dump_json(stats)) == stats
