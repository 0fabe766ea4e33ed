"""Millilitres are voxel counts times the volume of a voxel."""

import numpy as np
import pytest

from trauma_api.imaging.measure import blood_mask, measure_hemorrhage


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
