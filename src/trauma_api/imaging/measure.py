"""Millilitres from a probability map."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MM3_PER_ML = 1000.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class HemorrhageMeasure:
    """Blood in millilitres: at the threshold, and at a stricter and a laxer one."""

    volume_ml: float
    low_ml: float
    high_ml: float
    volume_per_slice_ml: tuple[float, ...]


def blood_mask(probability: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Where probability/255 is at least the threshold; any shape. Raises ValueError unless 0 < threshold <= 1."""
    if not 0 < threshold <= 1:
        raise ValueError("a threshold lies above 0 and not above 1")
    level = max(1, math.ceil(threshold * 255 - _ROUNDING))
    return probability >= np.uint8(level)


def measure_hemorrhage(
    probability_zyx: NDArray[np.uint8],
    spacing_zyx_mm: tuple[float, float, float],
    threshold: float,
    low_threshold: float,
    high_threshold: float,
) -> HemorrhageMeasure:
    """Count voxels of blood and multiply by the volume of one.

    ``probability_zyx`` is uint8, 0..255 for 0..1; the spacing is slice distance along the normal, row and column
    distance, whose product is a voxel's volume. ``low_ml`` comes from the stricter ``high_threshold``, ``high_ml`` from
    the laxer ``low_threshold``. Raises ValueError unless 0 < low_threshold <= threshold <= high_threshold <= 1 and the
    spacing is positive and finite.
    """
    if not 0 < low_threshold <= threshold <= high_threshold <= 1:
        raise ValueError("thresholds lie above 0, not above 1, and low <= middle <= high")
    if not all(math.isfinite(value) and value > 0 for value in spacing_zyx_mm):
        raise ValueError("spacing is positive and finite")
    voxel_ml = math.prod(spacing_zyx_mm) / _MM3_PER_ML
    per_slice = np.count_nonzero(blood_mask(probability_zyx, threshold), axis=(1, 2))
    return HemorrhageMeasure(
        volume_ml=int(per_slice.sum()) * voxel_ml,
        low_ml=int(np.count_nonzero(blood_mask(probability_zyx, high_threshold))) * voxel_ml,
        high_ml=int(np.count_nonzero(blood_mask(probability_zyx, low_threshold))) * voxel_ml,
        volume_per_slice_ml=tuple(int(count) * voxel_ml for count in per_slice),
    )
