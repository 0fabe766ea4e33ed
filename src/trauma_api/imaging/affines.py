"""Affines of images whose three axes may run any way: how they come into canonical order, and what sizes they state."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.geometry import canonical

_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True)
class AxisOrder:
    """Which stored axis becomes slices, rows and columns, and which of these three then are flipped."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def reordered(self, affine_lps: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The affine of the canonical volume; ``shape`` and ``affine_lps`` are as stored."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1.0
        for place, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_stored[axis, place] = -1.0 if flip else 1.0
            to_stored[axis, 3] = shape[axis] - 1 if flip else 0.0
        return np.asarray(affine_lps @ to_stored, dtype=np.float64)

    def undone(self, stack_zyx: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of a canonical volume with its axes as stored."""
        flipped = np.flip(stack_zyx, tuple(axis for axis, flip in enumerate(self.flips) if flip))
        return flipped.transpose(np.argsort(self.axes))


def axis_order(affine_lps: NDArray[np.float64]) -> AxisOrder:
    """How `geometry.canonical` turns a volume with this affine, seen in the turning of one small one."""
    turned, _ = canonical(np.arange(8, dtype=np.int16).reshape(2, 2, 2), affine_lps)
    steps = [int(turned[index]) - int(turned[0, 0, 0]) for index in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    # A step of 4 in the numbers is one along the first stored axis, of 2 along the second, of 1 along the third.
    return AxisOrder(tuple({4: 0, 2: 1, 1: 2}[abs(step)] for step in steps), tuple(step < 0 for step in steps))


def sizes_agree(affine: NDArray[np.float64], stated_mm: NDArray[np.float64]) -> bool:
    """Whether stated voxel sizes are those of an affine, within 1 %.

    Of a volume sheared by gantry tilt either the length of the oblique step or the distance of the planes is stated.
    """
    linear = affine[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    distances = 1 / np.linalg.norm(np.linalg.inv(linear), axis=1)
    off = np.minimum(np.abs(stated_mm - lengths) / lengths, np.abs(stated_mm - distances) / distances)
    return bool((off <= _SIZE_TOLERANCE).all())


def rows_of(affine: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """The four rows as plain numbers."""
    return tuple(tuple(float(value) for value in row) for row in affine)
