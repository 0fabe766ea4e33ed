"""Where voxels lie in the patient: slice order and distance from positions, and one canonical order of axes.

Coordinates are DICOM patient coordinates (LPS): x to the patient's left, y to the back, z to the head (DICOM PS3.3
section C.7.6.2.1.1). An affine maps (slice, row, column, 1) to millimetres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.imaging.slices import InPlane
from trauma_api.imaging.spacing import IrregularSpacingError, is_even, thickness_mm
from trauma_api.imaging.study import Orientation
from trauma_api.imaging.volume import HUArray, spacing_of

AXIAL_LIMIT_DEGREES = 30.0

_DIRECTION_TOLERANCE = 1e-2
_MAX_SHEAR = 1 / math.cos(math.radians(45.0))

_Pixel = TypeVar("_Pixel", bound=np.generic)


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


@dataclass(frozen=True)
class StackGeometry:
    """Where a stack of slices lies, in the order ``order``: along their normal, head to feet unless that is level."""

    order: tuple[int, ...]
    """Indices of the given slices."""
    affine_lps: NDArray[np.float64]
    """For the sorted slices. Of one slice the first column is only the unit normal."""
    has_distance: bool
    """False for one slice."""
    slice_centres_mm: tuple[float, ...]
    """Position of each sorted slice along the normal, from 0 at the first."""
    slice_thickness_mm: tuple[float, ...] | None = None
    """Of each sorted slice, where the distance varies; None where it is even."""

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float] | None:
        """Distance between slice planes along their normal (the mean thickness where it varies), rows and columns.

        None for one slice.
        """
        return spacing_of(self.affine_lps) if self.has_distance else None


@dataclass(frozen=True)
class Placement:
    """What turns decoded slices into the canonical volume, slice by slice."""

    order: tuple[int, ...]
    """Indices of the given slices, head to feet."""
    in_plane: InPlane
    """How each decoded image is turned."""
    shape_yx: tuple[int, int]
    """Rows and columns of a turned image."""
    spacing_yx_mm: tuple[float, float]
    """Between rows and between columns of a turned image."""
    affine_lps: NDArray[np.float64] | None
    """For the sorted and turned slices; None for one slice, whose distance to a next one nobody knows."""
    slice_centres_mm: tuple[float, ...]
    """Position of each slice along the normal, from 0 at the head."""
    slice_thickness_mm: tuple[float, ...] | None
    """Of each slice, head to feet, where the distance varies; None where it is even."""

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float] | None:
        """Distance between slice planes (the mean where it varies), rows and columns; None for one slice."""
        return None if self.affine_lps is None else spacing_of(self.affine_lps)


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
    The step from slice to slice follows the positions, so slices sheared by gantry tilt stay sheared; its length along
    the normal is the mean distance, or the mean thickness where the distance varies.
    Raises what `is_even` raises, and IrregularSpacingError where a slice lies half a pixel beside the line from the
    first to the last, or that line is more than 45 degrees off the normal, as no gantry tilts.
    """
    normal = np.cross(directions[0], directions[1])
    if normal[2] > 0:
        normal = -normal
    along = positions_mm @ normal
    order = np.argsort(along, kind="stable")
    ordered, along = positions_mm[order], along[order]
    affine = np.eye(4)
    affine[:3, 0] = normal
    affine[:3, 1] = directions[1] * spacing_yx_mm[0]
    affine[:3, 2] = directions[0] * spacing_yx_mm[1]
    affine[:3, 3] = ordered[0]
    thickness: tuple[float, ...] | None = None
    if len(ordered) > 1:
        distances = np.diff(along)
        distance = float(distances.mean())
        if not is_even(distances):
            own = thickness_mm(distances)
            distance, thickness = float(own.mean()), tuple(own.tolist())
        affine[:3, 0] = _direction(ordered, along, min(spacing_yx_mm)) * distance
    return StackGeometry(
        order=tuple(order.tolist()),
        affine_lps=affine,
        has_distance=len(ordered) > 1,
        slice_centres_mm=tuple((along - along[0]).tolist()),
        slice_thickness_mm=thickness,
    )


def _direction(ordered_mm: NDArray[np.float64], along_mm: NDArray[np.float64], pixel_mm: float) -> NDArray[np.float64]:
    """Where the first pixel goes from slice to slice, for 1 mm along the normal."""
    direction = (ordered_mm[-1] - ordered_mm[0]) / (along_mm[-1] - along_mm[0])
    sideways = ordered_mm - ordered_mm[0] - (along_mm - along_mm[0])[:, None] * direction
    if np.linalg.norm(sideways, axis=1).max() > pixel_mm / 2 or np.linalg.norm(direction) > _MAX_SHEAR:
        raise IrregularSpacingError
    return np.asarray(direction, dtype=np.float64)


def place(geometry: StackGeometry, rows: int, columns: int) -> Placement:
    """How axial slices of ``rows`` x ``columns``, as decoded, come into canonical order.

    The same as `canonical` of the whole stack, without having it in memory.
    """
    linear = geometry.affine_lps[:3, :3]
    axes = (0, *_in_plane_axes(linear, 0))
    shape = (len(geometry.order), rows, columns)
    turned_shape = tuple(shape[axis] for axis in axes)
    affine, flips = _turned(geometry.affine_lps, axes, turned_shape)
    return Placement(
        order=geometry.order,
        in_plane=InPlane(transpose=axes == (0, 2, 1), flip_rows=flips[1], flip_columns=flips[2]),
        shape_yx=(turned_shape[1], turned_shape[2]),
        spacing_yx_mm=spacing_of(affine)[1:],
        affine_lps=affine if geometry.has_distance else None,
        slice_centres_mm=geometry.slice_centres_mm,
        slice_thickness_mm=geometry.slice_thickness_mm,
    )


def apply_in_plane(image: NDArray[_Pixel], in_plane: InPlane) -> NDArray[_Pixel]:
    """A view of a decoded (rows, columns) image with rows front to back and columns the patient's right to left."""
    turned = image.T if in_plane.transpose else image
    return turned[:: -1 if in_plane.flip_rows else 1, :: -1 if in_plane.flip_columns else 1]


def canonical(voxels: HUArray, affine_lps: NDArray[np.float64]) -> tuple[HUArray, NDArray[np.float64]]:
    """Permute and flip axes to slices head to feet, rows front to back, columns the patient's right to left.

    Nothing is resampled: each voxel keeps its place in the patient.
    """
    linear = affine_lps[:3, :3]
    slices = int(np.argmax(np.abs(linear[2] / np.linalg.norm(linear, axis=0))))
    axes = (slices, *_in_plane_axes(linear, slices))
    out: HUArray = voxels.transpose(axes)
    affine, flips = _turned(affine_lps, axes, out.shape)
    out = np.flip(out, tuple(axis for axis, flip in enumerate(flips) if flip))
    return cast("HUArray", np.ascontiguousarray(out)), affine


def _in_plane_axes(linear: NDArray[np.float64], slices: int) -> tuple[int, int]:
    """Of the other two axes, the one that becomes the rows and the one that becomes the columns."""
    in_plane = [axis for axis in range(3) if axis != slices]
    columns = max(in_plane, key=lambda axis: abs(float(linear[0, axis] / np.linalg.norm(linear[:, axis]))))
    return next(axis for axis in in_plane if axis != columns), columns


def _turned(
    affine_lps: NDArray[np.float64], axes: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], tuple[bool, ...]]:
    """The affine after permuting and flipping axes, and which of the permuted axes, of ``shape``, are flipped."""
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = affine_lps[:3, axes], affine_lps[:3, 3]
    flips = []
    for axis, (coordinate, sign) in enumerate(((2, -1), (1, 1), (0, 1))):
        flips.append(bool(moved[coordinate, axis] * sign < 0))
        if flips[-1]:
            moved[:3, 3] += moved[:3, axis] * (shape[axis] - 1)
            moved[:3, axis] *= -1
    return moved, tuple(flips)
