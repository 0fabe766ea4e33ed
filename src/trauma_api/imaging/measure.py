"""Millilitres from a probability map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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


def voxel_ml_per_slice(
    slice_count: int, spacing_zyx_mm: tuple[float, float, float], slice_thickness_mm: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """The volume of one voxel of each slice in millilitres, shape (slices,).

    The spacing's product, or each slice's own thickness times row and column distance where thicknesses are given.
    Raises ValueError unless everything is positive and finite and there is one thickness for each slice.
    """
    if not all(math.isfinite(value) and value > 0 for value in (*spacing_zyx_mm, *(slice_thickness_mm or ()))):
        raise ValueError("spacing and thickness are positive and finite")
    slice_mm, row_mm, column_mm = spacing_zyx_mm
    thickness = np.full(slice_count, slice_mm) if slice_thickness_mm is None else np.asarray(slice_thickness_mm)
    if thickness.shape != (slice_count,):
        raise ValueError("one thickness for each slice")
    return np.asarray(thickness * (row_mm * column_mm / _MM3_PER_ML), dtype=np.float64)


@dataclass(frozen=True)
class NoiseRule:
    """Which connected regions of a mask are noise.

    A region is blood when it holds ``smallest_ml`` at ``core_probability`` (at the mask's threshold where that is
    higher), in a mask of which one region holds ``largest_ml`` at it: small regions are likelier to be blood beside a
    large one than alone. Raises ValueError for what is negative, or a probability above 1.
    """

    core_probability: float
    smallest_ml: float
    largest_ml: float

    def __post_init__(self) -> None:
        if not 0 <= self.core_probability <= 1 or self.smallest_ml < 0 or self.largest_ml < 0:
            raise ValueError("a rule on noise has a probability from 0 to 1, and volumes that are not negative")

    def keeps(self, core_ml: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which regions of a mask are blood, of what each holds at the core probability in millilitres."""
        enough = float(core_ml.max(initial=0.0)) >= self.largest_ml
        return (core_ml >= self.smallest_ml) & enough


class Cleaned(NamedTuple):
    """A probability map without noise, and the millilitres that were taken out of it."""

    probability_zyx: NDArray[np.uint8]
    left_out_ml: float


def without_noise(
    probability_zyx: NDArray[np.uint8],
    voxel_ml_per_slice: NDArray[np.float64],
    rule: NoiseRule,
    *,
    threshold: float,
    low_threshold: float,
) -> Cleaned:
    """The probabilities, 0 in each connected region that the rule calls noise; uint8 of the same shape.

    A region is connected across faces, edges and corners at ``low_threshold``, so that its halo goes with it. What is
    left out is counted at ``threshold``. ``voxel_ml_per_slice`` is what the function of that name gives. Raises
    ValueError unless 0 < low_threshold <= threshold <= 1.
    """
    if low_threshold > threshold:
        raise ValueError("the low threshold is not above the threshold")
    result = probability_zyx.copy()
    marked = blood_mask(probability_zyx, low_threshold)
    if not marked.any():
        return Cleaned(result, 0.0)
    # only where anything is marked, as finding regions takes far longer than looking for that
    box = tuple(_reach(np.asarray(marked.any(axis=others))) for others in ((1, 2), (0, 2), (0, 1)))
    regions, count = ndimage.label(marked[box], structure=np.ones((3, 3, 3), bool))
    core_ml, core = np.zeros(count + 1), max(threshold, rule.core_probability)
    for plane, probability, voxel_ml in zip(regions, result[box], voxel_ml_per_slice[box[0]], strict=True):
        core_ml += np.bincount(plane[blood_mask(probability, core)], minlength=count + 1) * voxel_ml
    noise, left_out_ml = ~rule.keeps(core_ml), 0.0
    noise[0] = False
    for plane, probability, voxel_ml in zip(regions, result[box], voxel_ml_per_slice[box[0]], strict=True):
        left_out_ml += float(np.count_nonzero(blood_mask(probability, threshold) & noise[plane]) * voxel_ml)
        probability[noise[plane]] = 0
    return Cleaned(result, left_out_ml)


def _reach(holds: NDArray[np.bool_]) -> slice:
    first, last = (int(at) for at in np.flatnonzero(holds)[[0, -1]])
    return slice(first, last + 1)


def measure_hemorrhage(
    probability_zyx: NDArray[np.uint8],
    spacing_zyx_mm: tuple[float, float, float],
    threshold: float,
    low_threshold: float,
    high_threshold: float,
    slice_thickness_mm: Sequence[float] | None = None,
) -> HemorrhageMeasure:
    """Count voxels of blood in each slice and multiply by the volume of one.

    ``probability_zyx`` is uint8, 0..255 for 0..1; the spacing is slice distance along the normal, row and column
    distance, whose product is a voxel's volume; ``slice_thickness_mm`` takes the slice distance's place where that
    varies. ``low_ml`` comes from the stricter ``high_threshold``, ``high_ml`` from the laxer ``low_threshold``. Raises
    ValueError unless 0 < low_threshold <= threshold <= high_threshold <= 1, and what `voxel_ml_per_slice` raises.
    """
    if not 0 < low_threshold <= threshold <= high_threshold <= 1:
        raise ValueError("thresholds lie above 0, not above 1, and low <= middle <= high")
    voxel_ml = voxel_ml_per_slice(len(probability_zyx), spacing_zyx_mm, slice_thickness_mm)

    def per_slice_ml(level: float) -> NDArray[np.float64]:
        return np.asarray(np.count_nonzero(blood_mask(probability_zyx, level), axis=(1, 2)) * voxel_ml)

    measured = per_slice_ml(threshold)
    return HemorrhageMeasure(
        volume_ml=float(measured.sum()),
        low_ml=float(per_slice_ml(high_threshold).sum()),
        high_ml=float(per_slice_ml(low_threshold).sum()),
        volume_per_slice_ml=tuple(float(value) for value in measured),
    )
