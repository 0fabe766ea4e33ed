"""Millilitres are voxel counts times the volume of a voxel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trauma_api.imaging.measure import (
    NoiseRule,
    blood_mask,
    measure_hemorrhage,
    voxel_ml_per_slice,
    without_noise,
)
from trauma_api.imaging.volume import CTVolume


def test_thresholds_give_the_volume_and_its_bounds() -> None:
    probability = np.zeros((2, 10, 10), dtype=np.uint8)
    probability[0, :2] = 255
    probability[0, 2:3] = 140
    probability[1, :4] = 90

    measure = measure_hemorrhage(probability, (5.0, 2.0, 1.0), 0.5, 0.3, 0.7)

    # A voxel is 10 mm3 = 0.01 mL. At 0.5: 20 + 10 voxels; at 0.7 (178.5): 20; at 0.3 (76.5): 20 + 10 + 40.
    assert measure.volume_ml == pytest.approx(0.30)
    assert measure.low_ml == pytest.approx(0.20)
    assert measure.high_ml == pytest.approx(0.70)
    assert measure.volume_per_slice_ml == pytest.approx((0.30, 0.0))


def test_a_probability_at_the_threshold_is_blood() -> None:
    # 0.2 * 255 is 51 exactly, 0.5 * 255 is 127.5.
    assert blood_mask(np.array([50, 51], dtype=np.uint8), 0.2).tolist() == [False, True]
    assert blood_mask(np.array([127, 128], dtype=np.uint8), 0.5).tolist() == [False, True]
    assert blood_mask(np.array([254, 255], dtype=np.uint8), 1.0).tolist() == [False, True]


@pytest.mark.parametrize("thresholds", [(0.5, 0.6, 0.7), (0.5, 0.3, 0.4), (0.0, 0.0, 0.5), (0.5, 0.3, 1.1)])
def test_disordered_thresholds_are_refused(thresholds: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        measure_hemorrhage(np.zeros((1, 1, 1), dtype=np.uint8), (1, 1, 1), *thresholds)


def test_spacing_must_be_positive() -> None:
    with pytest.raises(ValueError, match="spacing"):
        measure_hemorrhage(np.zeros((1, 1, 1), dtype=np.uint8), (1, 0, 1), 0.5, 0.3, 0.7)


def test_each_slice_counts_with_its_own_thickness() -> None:
    probability = np.full((3, 10, 10), 255, dtype=np.uint8)
    probability[1] = 90

    measure = measure_hemorrhage(probability, (3.0, 2.0, 1.0), 0.5, 0.3, 0.7, slice_thickness_mm=(5.0, 3.0, 1.0))

    # 100 voxels of 10, 6 and 2 mm3.
    assert measure.volume_per_slice_ml == pytest.approx((1.0, 0.0, 0.2))
    assert measure.volume_ml == measure.low_ml == pytest.approx(1.2)
    assert measure.high_ml == pytest.approx(1.8)


@pytest.mark.parametrize("thickness", [(1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, 1.0, 1.0)])
def test_thickness_must_be_positive_and_one_for_each_slice(thickness: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="thickness"):
        voxel_ml_per_slice(2, (1.0, 1.0, 1.0), thickness)
    with pytest.raises(ValueError, match="thickness"):
        CTVolume(np.zeros((2, 1, 1), dtype=np.int16), np.eye(4), thickness)


def test_a_volume_knows_the_voxels_of_its_slices() -> None:
    voxels, affine = np.zeros((2, 4, 4), dtype=np.int16), np.diag([4.0, 2.0, 1.0, 1.0])
    assert CTVolume(voxels, None).voxel_ml_per_slice is None
    np.testing.assert_allclose(CTVolume(voxels, affine).voxel_ml_per_slice, [0.008, 0.008])  # type: ignore[arg-type]
    np.testing.assert_allclose(CTVolume(voxels, affine, (5.0, 3.0)).voxel_ml_per_slice, [0.01, 0.006])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="thickness"):
        CTVolume(voxels, None, (5.0, 3.0))


class TestNoise:
    def cleaned(
        self, probability: NDArray[np.uint8], minimum_ml: float, minimum_largest_ml: float = 0.0
    ) -> NDArray[np.uint8]:
        voxel_ml = voxel_ml_per_slice(len(probability), (5.0, 2.0, 1.0))
        rule = NoiseRule(core_probability=0.0, smallest_ml=minimum_ml, largest_ml=minimum_largest_ml)
        return without_noise(probability, voxel_ml, rule, threshold=0.5, low_threshold=0.3).probability_zyx

    def test_a_small_region_goes_with_its_halo_and_a_large_one_stays(self) -> None:
        probability = np.zeros((3, 20, 20), dtype=np.uint8)
        probability[0:2, 2:7, 2:7] = 255  # 50 voxels of 0.01 mL
        probability[2, 15, 15:18] = 200  # 0.03 mL
        probability[2, 14, 15:18] = 90  # its halo

        result = self.cleaned(probability, 0.1)

        np.testing.assert_array_equal(result[0:2], probability[0:2])
        assert result[2].max() == 0

    def test_a_region_counts_across_slices(self) -> None:
        probability = np.zeros((4, 20, 20), dtype=np.uint8)
        probability[:, 5, 5:9] = 255  # 0.04 mL in each slice

        np.testing.assert_array_equal(self.cleaned(probability, 0.15), probability)
        assert self.cleaned(probability, 0.17).max() == 0

    def test_each_region_is_measured_where_it_lies(self) -> None:
        probability = np.full((6, 20, 20), 30, dtype=np.uint8)
        probability[2:4, 6:9, 8:12] = 255  # 24 voxels of 0.01 mL
        small = (slice(4, 5), slice(15, 17), slice(14, 16))
        probability[small] = 255  # 0.04 mL

        result = self.cleaned(probability, 0.1)

        expected = probability.copy()
        expected[small] = 0
        np.testing.assert_array_equal(result, expected)

    def test_small_regions_stay_beside_a_large_one_and_go_without(self) -> None:
        probability = np.zeros((4, 20, 20), dtype=np.uint8)
        probability[0, 2:6, 2:7] = 255  # 0.2 mL
        probability[2, 15, 15:18] = 255  # 0.03 mL
        probability[3, 2, 2] = 255  # 0.01 mL

        result = self.cleaned(probability, 0.02, 0.2)

        np.testing.assert_array_equal(result[:3], probability[:3])
        assert result[3].max() == 0
        assert self.cleaned(probability, 0.02, 0.21).max() == 0

    def test_voxels_below_every_threshold_stay_as_they_are(self) -> None:
        probability = np.full((2, 4, 4), 30, dtype=np.uint8)

        np.testing.assert_array_equal(self.cleaned(probability, 1.0), probability)

    @pytest.mark.parametrize("values", [(-0.1, 0, 0), (1.1, 0, 0), (0.5, -1, 0), (0.5, 0, -1), (float("nan"), 0, 0)])
    def test_a_rule_without_sense_is_refused(self, values: tuple[float, float, float]) -> None:
        with pytest.raises(ValueError, match="rule on noise"):
            NoiseRule(*values)
