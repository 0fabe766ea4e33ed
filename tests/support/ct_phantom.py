"""A body of known geometry in the patient, sampled on whatever slices a test wants to write.

An elliptical cylinder of soft tissue in air along the patient's axis, with a box of blood and, at the patient's left,
front and head, a small dense marker. Coordinates are DICOM patient coordinates (LPS): x left, y back, z head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

AIR_HU, TISSUE_HU, BLOOD_HU, MARKER_HU = -1000, 40, 200, 1000

BOX_MM = ((-72.0, 48.0), (-36.0, 60.0), (-40.0, 60.0))
"""From and to along x, y and z; a whole number of pixels and slices of every grid that is parallel to it."""
BOX_ML = math.prod(end - start for start, end in BOX_MM) / 1000
MARKER_MM = ((60.0, 96.0), (-88.0, -60.0), (70.0, 90.0))
MARKER_CENTRE_MM = np.mean(MARKER_MM, axis=1)

_BODY_HALF_MM = (175.0, 125.0)


def hu_at(points_mm: NDArray[np.float64], with_box: bool = True) -> NDArray[np.int16]:
    """HU at points of shape (..., 3); int16 of shape (...)."""
    x, y = points_mm[..., 0], points_mm[..., 1]
    body = (x / _BODY_HALF_MM[0]) ** 2 + (y / _BODY_HALF_MM[1]) ** 2 < 1
    hu = np.where(body, TISSUE_HU, AIR_HU).astype(np.int16)
    if with_box:
        hu[_inside(points_mm, BOX_MM)] = BLOOD_HU
    hu[_inside(points_mm, MARKER_MM)] = MARKER_HU
    return hu


def _inside(points_mm: NDArray[np.float64], sides_mm: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    starts, ends = np.transpose(sides_mm)
    return np.asarray(((points_mm > starts) & (points_mm < ends)).all(axis=-1))


@dataclass(frozen=True)
class SliceGrid:
    """Slices as a scanner writes them, in the order of ``centres_mm``."""

    centres_mm: NDArray[np.float64]
    """Shape (slices, 3): the middle of each image."""
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    """ImageOrientationPatient: along a row, then down a column."""
    spacing_yx_mm: tuple[float, float] = (4.0, 4.0)
    shape_yx: tuple[int, int] = (96, 96)

    @property
    def directions(self) -> NDArray[np.float64]:
        """Along a row and down a column, shape (2, 3)."""
        return np.reshape(self.orientation, (2, 3))

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """ImagePositionPatient of each slice, to as many digits as DICOM's decimal strings have room for."""
        across, down = self.directions
        rows, columns = self.shape_yx
        row_mm, column_mm = self.spacing_yx_mm
        to_corner = across * column_mm * (columns - 1) / 2 + down * row_mm * (rows - 1) / 2
        return np.asarray(np.round(self.centres_mm - to_corner, 8))

    def hu(self, with_box: bool = True) -> NDArray[np.int16]:
        """What each pixel's centre hits, shape (slices, rows, columns)."""
        rows, columns = (np.arange(count) * mm for count, mm in zip(self.shape_yx, self.spacing_yx_mm, strict=True))
        across, down = self.directions
        in_plane_mm = rows[:, None, None] * down + columns[None, :, None] * across
        return hu_at(self.positions_mm[:, None, None, :] + in_plane_mm, with_box)

    def part(self, keep: slice | Sequence[int]) -> Self:
        """Some of the slices."""
        return replace(self, centres_mm=self.centres_mm[keep])

    def canonical_index_zyx(self, point_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional index of a point after turning: slices head to feet, rows front to back, columns right to left."""
        across, down = self.directions
        to_feet = np.cross(across, down)
        to_feet = -to_feet if to_feet[2] > 0 else to_feet
        centres = self.centres_mm[np.argsort(self.centres_mm @ to_feet)]
        number = np.interp(point_mm @ to_feet, centres @ to_feet, np.arange(len(centres)))
        centre = [np.interp(number, np.arange(len(centres)), centres[:, axis]) for axis in range(3)]
        axes = list(zip((down, across), self.spacing_yx_mm, self.shape_yx, strict=True))
        index = [float(number)]
        for direction, mm, count in sorted(axes, key=lambda axis: abs(axis[0][0])):
            sign = np.sign(direction[np.argmax(np.abs(direction))])
            index.append((count - 1) / 2 + float((point_mm - centre) @ direction) * sign / mm)
        return np.asarray(index)


def along_z(z_mm: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Centres of slices on the patient's axis."""
    return np.asarray([(0.0, 0.0, z) for z in z_mm])


def head_to_feet(slices: int = 26, slice_mm: float = 10.0) -> NDArray[np.float64]:
    """Centres of evenly spaced slices about the origin, on the patient's axis."""
    return along_z(((slices - 1) / 2 - np.arange(slices)) * slice_mm)


def tilted(degrees: float) -> SliceGrid:
    """Gantry tilt: images lean about the left-right axis while the table moves along the patient's axis.

    Rows are 4 mm apart from front to back, so that they fill the box.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    orientation = (1.0, 0.0, 0.0, 0.0, round(cosine, 12), round(sine, 12))
    return SliceGrid(head_to_feet(), orientation, (round(4 / cosine, 12), 4.0))


def oblique(about_x_degrees: float, about_y_degrees: float = 0.0) -> SliceGrid:
    """An orthogonal stack that is turned as a whole."""
    (cos_x, sin_x), (cos_y, sin_y) = (
        (math.cos(math.radians(value)), math.sin(math.radians(value))) for value in (about_x_degrees, about_y_degrees)
    )
    about_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    turn = np.round(about_y @ about_x, 12)
    return SliceGrid(head_to_feet() @ turn.T, tuple(turn[:, :2].T.ravel().tolist()))
