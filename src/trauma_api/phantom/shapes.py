"""The grid that a phantom is drawn on, its canvas, and the shapes that are drawn.

Coordinates are millimetres in DICOM patient coordinates: x to the patient's left, y to the back, z to the head. Slices
run head to feet, so z falls with the slice index. Distances are approximate, negative inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trauma_api.phantom.labels import Label

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice, slice]
Point = tuple[float, float, float]
"""(x, y, z) in mm."""

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Grid:
    """A regular grid: its middle column and row lie at x = y = 0, its first slice at ``z_top_mm``."""

    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    z_top_mm: float

    @cached_property
    def z(self) -> Floats:
        """z of each slice in mm, falling; shape (slices,)."""
        return (self.z_top_mm - np.arange(self.shape_zyx[0]) * self.spacing_zyx_mm[0]).astype(np.float32)

    @cached_property
    def y(self) -> Floats:
        """y of each row in mm; shape (rows,)."""
        return self._centred(1)

    @cached_property
    def x(self) -> Floats:
        """x of each column in mm; shape (columns,)."""
        return self._centred(2)

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in millilitres."""
        return float(np.prod(self.spacing_zyx_mm)) / _MM3_PER_ML

    @property
    def everything(self) -> Window:
        """The window of the whole grid."""
        return slice(0, self.shape_zyx[0]), slice(0, self.shape_zyx[1]), slice(0, self.shape_zyx[2])

    def window(self, centre: Point, reach: Point) -> Window:
        """The part of the grid within ``reach`` of ``centre`` along each axis; may be empty."""
        (x, y, z), (dx, dy, dz) = centre, reach
        inside = (np.abs(self.z - z) <= dz, np.abs(self.y - y) <= dy, np.abs(self.x - x) <= dx)
        found = [np.flatnonzero(axis) for axis in inside]
        if any(len(indices) == 0 for indices in found):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        first, second, third = (slice(int(indices[0]), int(indices[-1]) + 1) for indices in found)
        return first, second, third

    def axes(self, window: Window) -> tuple[Floats, Floats, Floats]:
        """z, y and x of a window, shaped to broadcast to (slices, rows, columns)."""
        return self.z[window[0], None, None], self.y[None, window[1], None], self.x[None, None, window[2]]

    def shape_of(self, window: Window) -> tuple[int, int, int]:
        """Slices, rows and columns of a window."""
        slices, rows, columns = (part.stop - part.start for part in window)
        return slices, rows, columns

    def _centred(self, axis: int) -> Floats:
        count, spacing = self.shape_zyx[axis], self.spacing_zyx_mm[axis]
        return ((np.arange(count) - (count - 1) / 2) * spacing).astype(np.float32)


class Canvas:
    """Labels and Hounsfield units under the brush: ``labels_zyx`` uint8 and ``hu_zyx`` float32, of the grid's shape."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.labels_zyx: NDArray[np.uint8] = np.zeros(grid.shape_zyx, np.uint8)
        self.hu_zyx: Floats = np.full(grid.shape_zyx, -1000.0, np.float32)

    def paint(self, window: Window, mask: Mask, label: Label, hu: float | Floats) -> None:
        """Paint where ``mask`` (of the window's shape) says; ``hu`` is one value or an array of the window's shape."""
        self.labels_zyx[window][mask] = label
        self.hu_zyx[window][mask] = hu[mask] if isinstance(hu, np.ndarray) else hu


def ellipsoid_distance(
    axes: tuple[Floats, Floats, Floats], centre: Point, half: Point, turn_axial: float = 0.0, turn_coronal: float = 0.0
) -> Floats:
    """Approximate distance in mm from an ellipsoid's surface; ``half`` axes in mm, turns in radians.

    The bound k0 (k0 - 1) / k1 of Inigo Quilez's collection of distance functions, exact for a sphere.
    """
    z, y, x = (axis - offset for axis, offset in zip(axes, reversed(centre), strict=True))
    across, back = np.cos(turn_axial) * x + np.sin(turn_axial) * y, np.cos(turn_axial) * y - np.sin(turn_axial) * x
    u, w = (
        np.cos(turn_coronal) * across + np.sin(turn_coronal) * z,
        np.cos(turn_coronal) * z - np.sin(turn_coronal) * across,
    )
    a, b, c = (np.float32(value) for value in half)
    near = np.sqrt((u / a) ** 2 + (back / b) ** 2 + (w / c) ** 2)
    slope = np.sqrt((u / a**2) ** 2 + (back / b**2) ** 2 + (w / c**2) ** 2)
    return np.asarray(near * (near - 1) / np.maximum(slope, np.float32(1e-4)), np.float32)


def smooth_noise(
    random: np.random.Generator,
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: tuple[float, float, float],
    scale_mm: float,
) -> Floats:
    """Noise of about unit variance whose bumps are ``scale_mm`` wide, float32 of ``shape_zyx``."""
    weights = [
        _interpolation(count, spacing / scale_mm) for count, spacing in zip(shape_zyx, spacing_zyx_mm, strict=True)
    ]
    coarse = random.standard_normal([matrix.shape[1] for matrix in weights], np.float32)
    along_x = coarse @ weights[2].T
    along_y = np.matmul(weights[1], along_x)
    noise = np.tensordot(weights[0], along_y, axes=1)
    return np.asarray(noise * np.float32(1.6), np.float32)


def _interpolation(count: int, step: float) -> Floats:
    """Weights (count, knots) that interpolate knots one apart at positions ``step`` apart, with a smooth step."""
    position = np.arange(count) * step
    left = np.floor(position).astype(int)
    t = position - left
    t = t * t * (3 - 2 * t)
    weights = np.zeros((count, int(left[-1]) + 2), np.float32)
    weights[np.arange(count), left] = 1 - t
    weights[np.arange(count), left + 1] = t
    return weights


@dataclass(frozen=True)
class Bead:
    """One ball of a tube."""

    centre: Point
    radius_mm: float


def beads_along(points: Sequence[Point], radii_mm: Sequence[float], step_mm: float) -> list[Bead]:
    """Balls at most ``step_mm`` apart along the line through ``points``, with radii interpolated between theirs."""
    corners = np.asarray(points, float)
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    where = np.linspace(0.0, at[-1], max(2, int(at[-1] / step_mm) + 1))
    xyz = [np.interp(where, at, corners[:, axis]) for axis in range(3)]
    radius = np.interp(where, at, radii_mm)
    return [Bead((float(x), float(y), float(z)), float(r)) for x, y, z, r in zip(*xyz, radius, strict=True)]


def ball_distance(grid: Grid, bead: Bead, margin_mm: float = 0.0) -> tuple[Window, Floats]:
    """A window around a ball and the distance from its surface in mm there."""
    # at least half a slice, or a thin tube would slip between two slices
    reach = bead.radius_mm + margin_mm
    deep = max(reach, 0.51 * grid.spacing_zyx_mm[0])
    window = grid.window(bead.centre, (reach, reach, deep))
    z, y, x = grid.axes(window)
    cx, cy, cz = bead.centre
    squeeze = np.float32(min(1.0, bead.radius_mm / deep))
    distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) * squeeze) ** 2) - np.float32(bead.radius_mm)
    return window, np.asarray(distance, np.float32)
