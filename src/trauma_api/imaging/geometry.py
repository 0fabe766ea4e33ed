"""Where voxels lie in the patient: slice order and distance from positions, and one canonical order of axes.

Coordinates are DICOM patient coordinates (LPS): x to the patient's left, y to the back, z to the head (DICOM PS3.3
section C.7.6.2.1.1). An affine maps (slice, row, column, 1) to millimetres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.imaging.study import Orientation
from trauma_api.imaging.volume import HUArray

AXIAL_LIMIT_DEGREES = 30.0

_SAME_POSITION_MM = 0.01
_RELATIVE_TOLERANCE = 0.02
_ABSOLUTE_TOLERANCE_MM = 0.05
_DIRECTION_TOLERANCE = 1e-2


class MissingGeometryError(InputError):
    """Positions, orientation or pixel spacing are missing or cannot be true."""

    code = "missing-geometry"
    title = "Image geometry is missing"
    public_message = (
        "The images lack a valid position, orientation or pixel spacing, so nothing can be measured in them. "
        "Send the original series from the scanner or archive."
    )


class NotAxialError(InputError):
    """The slices are not axial."""

    code = "not-axial"
    title = "Slices are not axial"
    public_message = "The slices are tilted more than 30 degrees from axial. Send the axial series."


class DuplicateSlicePositionsError(InputError):
    """Two slices lie at the same place."""

    code = "duplicate-slice-positions"
    title = "Slices at the same position"
    public_message = (
        "The series has several slices at the same position, so it holds more than one pass over the body. "
        "Send one phase or reconstruction."
    )


class IrregularSpacingError(InputError):
    """Slices are missing or do not lie on one regular grid."""

    code = "irregular-spacing"
    title = "Slices are not evenly spaced"
    public_message = (
        "The slices do not lie on one regular grid, so slices are missing or several scans are mixed. "
        "Send the complete series."
    )


@dataclass(frozen=True)
class StackGeometry:
    """``order`` sorts the slices along their normal; ``affine_lps`` is for the sorted slices.

    ``has_distance`` is false for one slice: the affine's first column is then only the unit normal.
    """

    order: tuple[int, ...]
    affine_lps: NDArray[np.float64]
    has_distance: bool

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float] | None:
        """Distance between slice planes along their normal, rows and columns; None for one slice."""
        if not self.has_distance:
            return None
        linear = self.affine_lps[:3, :3]
        row_mm, column_mm = float(np.linalg.norm(linear[:, 1])), float(np.linalg.norm(linear[:, 2]))
        return abs(float(np.linalg.det(linear))) / (row_mm * column_mm), row_mm, column_mm


def unit_directions(orientation: Sequence[float]) -> NDArray[np.float64]:
    """ImageOrientationPatient as a 2x3 matrix: the direction along a row, then the direction down a column.

    Raises MissingGeometryError unless it is six finite numbers that make two orthogonal unit vectors.
    """
    if len(orientation) != 6 or not all(math.isfinite(value) for value in orientation):
        raise MissingGeometryError
    directions = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > _DIRECTION_TOLERANCE or abs(directions[0] @ directions[1]) > _DIRECTION_TOLERANCE:
        raise MissingGeometryError
    return np.asarray(directions / lengths[:, None], dtype=np.float64)


def orientation_of(normal: NDArray[np.float64]) -> Orientation:
    """The plane whose normal is within 30 degrees of the slices' normal, or oblique."""
    cosines = np.abs(normal) / np.linalg.norm(normal)
    axis = int(np.argmax(cosines))
    if cosines[axis] < math.cos(math.radians(AXIAL_LIMIT_DEGREES)):
        return "oblique"
    names: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")
    return names[axis]


def stack_geometry(
    positions_mm: NDArray[np.float64], directions: NDArray[np.float64], spacing_yx_mm: tuple[float, float]
) -> StackGeometry:
    """Order slices by position along their normal and place them in the patient.

    ``positions_mm`` is (slices, 3), the centre of each slice's first pixel; ``directions`` as from `unit_directions`.
    The step from slice to slice is the mean step of the positions, so slices sheared by gantry tilt stay sheared.
    Raises DuplicateSlicePositionsError below 0.01 mm distance, and IrregularSpacingError where a distance differs from
    the median by more than 2 % or 0.05 mm, whichever is larger, or a slice is shifted sideways by half a pixel.
    """
    normal = np.cross(directions[0], directions[1])
    along = positions_mm @ normal
    order = np.argsort(along, kind="stable")
    ordered = positions_mm[order]
    affine = np.eye(4)
    affine[:3, 0] = normal
    affine[:3, 1] = directions[1] * spacing_yx_mm[0]
    affine[:3, 2] = directions[0] * spacing_yx_mm[1]
    affine[:3, 3] = ordered[0]
    if len(ordered) > 1:
        _check_distances(np.diff(along[order]))
        step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
        _check_sideways(ordered, step, normal, min(spacing_yx_mm))
        affine[:3, 0] = step
    return StackGeometry(tuple(int(index) for index in order), affine, has_distance=len(ordered) > 1)


def _check_distances(distances: NDArray[np.float64]) -> None:
    if distances.min() < _SAME_POSITION_MM:
        raise DuplicateSlicePositionsError
    median = float(np.median(distances))
    if np.abs(distances - median).max() > max(_RELATIVE_TOLERANCE * median, _ABSOLUTE_TOLERANCE_MM):
        raise IrregularSpacingError


def _check_sideways(
    ordered: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64], pixel_mm: float
) -> None:
    expected = ordered[0] + np.arange(len(ordered))[:, None] * step
    off = ordered - expected
    sideways = off - (off @ normal)[:, None] * normal
    if np.linalg.norm(sideways, axis=1).max() > pixel_mm / 2:
        raise IrregularSpacingError


def canonical(voxels: HUArray, affine_lps: NDArray[np.float64]) -> tuple[HUArray, NDArray[np.float64]]:
    """Permute and flip axes to slices head to feet, rows front to back, columns the patient's right to left.

    Nothing is resampled: each voxel keeps its place in the patient.
    """
    linear = affine_lps[:3, :3]
    cosines = np.abs(linear / np.linalg.norm(linear, axis=0))
    slices = int(np.argmax(cosines[2]))
    in_plane = [axis for axis in range(3) if axis != slices]
    columns = max(in_plane, key=lambda axis: float(cosines[0, axis]))
    rows = next(axis for axis in in_plane if axis != columns)
    axes = (slices, rows, columns)
    out: HUArray = voxels.transpose(axes)
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = linear[:, axes], affine_lps[:3, 3]
    for axis, (coordinate, sign) in enumerate(((2, -1), (1, 1), (0, 1))):
        if moved[coordinate, axis] * sign < 0:
            moved[:3, 3] += moved[:3, axis] * (out.shape[axis] - 1)
            moved[:3, axis] *= -1
            out = np.flip(out, axis)
    return cast("HUArray", np.ascontiguousarray(out)), moved
