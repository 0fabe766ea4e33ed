"""The two kinds of image stacks that the service works on: CT volumes in HU, and plain pictures.

Slices are in anatomical order, head to feet, and every shown slice has the patient's left on the right of the
picture and the front at the top, whatever way the scanner wrote them.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.body import trunk_box
from trauma_api.imaging.measure import voxel_ml_per_slice

HUArray = NDArray[np.int16] | NDArray[np.float32]


def spacing_of(affine_lps: NDArray[np.float64]) -> tuple[float, float, float]:
    """Distance between slice planes along their normal, between rows and between columns, in millimetres.

    The product is the volume of a voxel, also when the slices are sheared by gantry tilt.
    """
    linear = affine_lps[:3, :3]
    row_mm, column_mm = float(np.linalg.norm(linear[:, 1])), float(np.linalg.norm(linear[:, 2]))
    return abs(float(np.linalg.det(linear))) / (row_mm * column_mm), row_mm, column_mm


@dataclass(frozen=True)
class CTVolume:
    """One CT series in Hounsfield units on a regular grid, in canonical order.

    ``voxels_zyx_hu`` is int16 or float32 of shape (slices, rows, columns): slices run head to feet, rows front to
    back, columns the patient's right to left. ``affine_lps`` is 4x4 and maps (slice, row, column, 1) to DICOM patient
    coordinates in millimetres (x to the left, y to the back, z to the head); its first column may be oblique to the
    slice plane (gantry tilt). It is None for a single slice, whose distance to a next one nobody knows.
    ``slice_thickness_mm`` is given where the distance between slices varies: how much of the body each slice stands
    for along the normal. The affine then holds their mean, and is true of the first slice only.

    Raises ValueError when the array is not 3-D, the affine is not a 4x4 matrix of finite numbers, or there is not one
    positive thickness for each slice.
    """

    voxels_zyx_hu: HUArray
    affine_lps: NDArray[np.float64] | None
    slice_thickness_mm: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.voxels_zyx_hu.ndim != 3 or 0 in self.voxels_zyx_hu.shape:
            raise ValueError("a CT volume has three axes, none of them empty")
        if self.affine_lps is not None and (self.affine_lps.shape != (4, 4) or not np.isfinite(self.affine_lps).all()):
            raise ValueError("an affine is a 4x4 matrix of finite numbers")
        thickness = self.slice_thickness_mm
        if thickness is not None and (
            self.affine_lps is None
            or len(thickness) != self.slice_count
            or not all(math.isfinite(value) and value > 0 for value in thickness)
        ):
            raise ValueError("thickness is positive and finite, one for each slice of a volume with an affine")

    @property
    def slice_count(self) -> int:
        """How many slices there are."""
        return int(self.voxels_zyx_hu.shape[0])

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return int(self.voxels_zyx_hu.shape[1]), int(self.voxels_zyx_hu.shape[2])

    @cached_property
    def spacing_zyx_mm(self) -> tuple[float, float, float] | None:
        """Distance between slice planes along their normal, between rows and between columns, in millimetres.

        The mean distance where it varies.
        """
        return None if self.affine_lps is None else spacing_of(self.affine_lps)

    @cached_property
    def trunk_box(self) -> tuple[slice, slice]:
        """Rows and columns that hold the trunk in any slice; all of them where none is found."""
        return trunk_box(self.voxels_zyx_hu)

    @cached_property
    def voxel_ml_per_slice(self) -> NDArray[np.float64] | None:
        """The volume of one voxel of each slice in millilitres, shape (slices,); None without a spacing."""
        if self.spacing_zyx_mm is None:
            return None
        return voxel_ml_per_slice(self.slice_count, self.spacing_zyx_mm, self.slice_thickness_mm)


@dataclass(frozen=True)
class PictureStack:
    """Plain pictures: no HU, and no spacing unless the sender stated it.

    ``pixels_zyxc`` is uint8 of shape (pictures, rows, columns, 3), RGB, in the order in which they were sent.
    ``stated_spacing_zyx_mm`` is what the sender said, or None. ``window_hu`` is the HU range that black to white
    stands for, as the sender said, or None.

    Raises ValueError when the array is not 4-D with three channels.
    """

    pixels_zyxc: NDArray[np.uint8]
    stated_spacing_zyx_mm: tuple[float, float, float] | None = None
    window_hu: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pixels_zyxc.ndim != 4 or self.pixels_zyxc.shape[-1] != 3 or 0 in self.pixels_zyxc.shape:
            raise ValueError("a picture stack has four axes, none of them empty, and three channels")

    @property
    def slice_count(self) -> int:
        """How many pictures there are."""
        return int(self.pixels_zyxc.shape[0])

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of a picture."""
        return int(self.pixels_zyxc.shape[1]), int(self.pixels_zyxc.shape[2])

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float] | None:
        """What the sender stated, in millimetres; never a default."""
        return self.stated_spacing_zyx_mm


ImageStack = CTVolume | PictureStack
