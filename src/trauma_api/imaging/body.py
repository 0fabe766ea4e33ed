"""Where the patient lies in a volume: the models look at the body, not at the air around it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BODY_HU = -300
_GRID = 128
_SLICES_LOOKED_AT = 48
_THIN = np.ones((3, 3), bool)
"""Three grid points, about 1 cm: table tops and clothes are thinner, trunks are not."""


def trunk_box(voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns that hold the trunk in any slice, with about 1 cm around it; all of them where nothing is found.

    The trunk is the largest connected region of a slice that is denser than -300 HU once thin things such as the table
    top are taken away; arms that do not touch the trunk may be cut off. ``voxels_zyx_hu`` is (slices, rows, columns).
    It is looked at on a grid of about 128 x 128 points, in at most 48 slices.
    """
    count, rows, columns = voxels_zyx_hu.shape
    step = max(round(max(rows, columns) / _GRID), 1)
    found = np.zeros((len(range(0, rows, step)), len(range(0, columns, step))), bool)
    for plane in voxels_zyx_hu[:: max(-(-count // _SLICES_LOOKED_AT), 1), ::step, ::step]:
        found |= _largest_region(plane > _BODY_HU)
    if not found.any():
        return slice(0, rows), slice(0, columns)
    return _reach(np.any(found, axis=1), step, rows), _reach(np.any(found, axis=0), step, columns)


def _largest_region(dense: NDArray[np.bool_]) -> NDArray[np.bool_]:
    regions, count = ndimage.label(ndimage.binary_opening(dense, _THIN))
    if count == 0:
        return np.zeros(dense.shape, bool)
    return np.asarray(regions == 1 + int(np.bincount(regions.ravel())[1:].argmax()))


def _reach(holds: NDArray[np.bool_], step: int, count: int) -> slice:
    first, last = (int(at) for at in np.flatnonzero(holds)[[0, -1]])
    return slice(max((first - 3) * step, 0), min((last + 4) * step, count))
