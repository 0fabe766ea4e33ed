"""Active extravasation painted into pictures that show blood, as there are few phantoms whose own jets teach it.

The same picture with and without a jet tells a model what a jet is; phantoms alone tell it mostly that jets lie where
there is much blood. A painted jet has the density of a drawn one (`trauma_api.phantom.bleeding.draw_jet`): a share of
the aorta's, in blood only. It is added to the picture, whose noise stays.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.imaging.windowing import MODEL_WINDOWS_HU, grey
from trauma_api.phantom.bleeding import AROUND_JET_MM, LEAST_BEAD_MM, jet_hu
from trauma_api.phantom.injuries import HEMATOMA_HU

_BLOOD_HU = (15.0, 90.0)
_LEAST_BLOOD = 0.5
"""Of a patch that a jet begins in."""
SIZE_MM, _PIXEL_MM = (7.0, 15.0), (1.5, 2.1)
_LEAST_PIXELS = 3.0
_TRIES = 6
_LEAST_ORGAN = 240

JET_GROUP, LACERATION_GROUP, BLOOD_GROUPS, ORGAN_GROUPS = 11, 8, (8, 9, 10), (0, 1, 2)
"""Of patches.npy."""


def paint_jet(
    rgb: NDArray[np.uint8], patches: NDArray[np.uint8], aorta_hu: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """A picture (rows, columns, 3) and its patches (rows, columns, groups) with a jet; None where it finds no room."""
    bloody = patches[..., BLOOD_GROUPS].astype(np.float64).sum(axis=-1) / 255.0
    places = np.argwhere(bloody >= _LEAST_BLOOD)
    if not len(places):
        return None
    hu = pictures_hu(rgb)
    smooth = ndimage.uniform_filter(hu, 3, mode="nearest")
    side = len(rgb) // len(patches)
    blood = soft_blood(smooth, patches)
    hu_of_jet = jet_hu(aorta_hu, rng)
    for _ in range(_TRIES):
        centre = places[rng.integers(len(places))] * side + rng.uniform(0, side, 2)
        at = tuple(np.minimum(centre.astype(int), len(rgb) - 1))
        if not blood[at]:
            continue
        filled = _beads(centre, len(rgb), rng)[0] * blood
        if filled.sum() >= _LEAST_PIXELS:
            return _painted(rgb, patches, hu, smooth, filled, hu_of_jet)
    return None


def paint_tear(
    rgb: NDArray[np.uint8], patches: NDArray[np.uint8], aorta_hu: float, rng: np.random.Generator, *, bleeds: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The same in sound parenchyma: a hematoma as `draw_jet` makes it around a jet, with the jet or without."""
    places = np.argwhere(patches[..., ORGAN_GROUPS].max(axis=-1) >= _LEAST_ORGAN)
    if not len(places):
        return None
    hu = pictures_hu(rgb)
    side = len(rgb) // len(patches)
    centre = places[rng.integers(len(places))] * side + rng.uniform(0, side, 2)
    filled, around = _beads(centre, len(rgb), rng)
    around = around * np.kron(patches[..., ORGAN_GROUPS].max(axis=-1) >= 100, np.ones((side, side), bool))
    smooth = ndimage.uniform_filter(hu, 3, mode="nearest")
    torn_hu = hu + around * np.minimum(float(rng.uniform(*HEMATOMA_HU)) - smooth, 0.0)
    picture, truth = _with(rgb, patches, torn_hu, around, LACERATION_GROUP, ORGAN_GROUPS)
    if not bleeds:
        return picture, truth
    hu_of_jet = jet_hu(aorta_hu, rng)
    smooth = ndimage.uniform_filter(torn_hu, 3, mode="nearest")
    return _painted(picture, truth, torn_hu, smooth, filled * (around > 0.5), hu_of_jet)


def soft_blood(smooth_hu: NDArray[np.float32], patches: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where contrast could leak into: pixels of blood's HU in patches that hold some."""
    side = len(smooth_hu) // len(patches)
    bloody = patches[..., BLOOD_GROUPS].astype(np.float32).sum(axis=-1) >= 0.15 * 255
    found = (smooth_hu > _BLOOD_HU[0]) & (smooth_hu < _BLOOD_HU[1]) & np.kron(bloody, np.ones((side, side), bool))
    return np.asarray(ndimage.binary_closing(found, iterations=1), np.bool_)


def levels_of(picture: NDArray[np.uint8], hu: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
    """Write HU into a picture, where they changed."""
    for channel, window in enumerate(MODEL_WINDOWS_HU):
        picture[where, channel] = grey(hu[where], window)


def pictures_hu(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """HU of a picture: from the abdominal window, and from the wide one where that is clipped."""
    (low, high), (from_hu, to_hu) = MODEL_WINDOWS_HU[:2]
    wide = low + rgb[..., 0].astype(np.float32) * ((high - low) / 255.0)
    narrow = from_hu + rgb[..., 1].astype(np.float32) * ((to_hu - from_hu) / 255.0)
    clipped = (rgb[..., 1] == 0) | (rgb[..., 1] == 255)
    return np.where(clipped, wide, narrow).astype(np.float32)


def _beads(
    centre: NDArray[np.float64], side: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much of each pixel a cut through a string of beads fills, and the beads with what lies around them."""
    pixel_mm, size_mm = rng.uniform(*_PIXEL_MM), rng.uniform(*SIZE_MM)
    margin = rng.uniform(*AROUND_JET_MM) / pixel_mm
    around = np.zeros((side, side), np.float32)
    rows, columns = np.ogrid[:side, :side]
    filled = np.zeros((side, side), np.float32)
    at = centre
    for _ in range(rng.integers(1, 4)):
        # a slice cuts a bead anywhere, and a tail is half as wide
        radius = max(0.5 * size_mm * rng.uniform(0.35, 1.0), LEAST_BEAD_MM) / pixel_mm
        distance = np.hypot(rows + 0.5 - at[0], columns + 0.5 - at[1]) - radius
        filled = np.maximum(filled, np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32))
        around = np.maximum(around, np.clip(0.5 - distance + margin, 0.0, 1.0).astype(np.float32))
        at = at + rng.normal(0.0, 0.5 * size_mm / pixel_mm, 2)
    return filled, around


def _painted(
    rgb: NDArray[np.uint8],
    patches: NDArray[np.uint8],
    hu: NDArray[np.float32],
    smooth: NDArray[np.float32],
    filled: NDArray[np.float32],
    jet_hu: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return _with(rgb, patches, hu + filled * np.maximum(jet_hu - smooth, 0.0), filled, JET_GROUP, BLOOD_GROUPS)


def _with(
    rgb: NDArray[np.uint8],
    patches: NDArray[np.uint8],
    new_hu: NDArray[np.float32],
    filled: NDArray[np.float32],
    group: int,
    instead_of: tuple[int, ...],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    picture = rgb.copy()
    levels_of(picture, new_hu, filled > 0)
    count = len(patches)
    side = len(rgb) // count
    share = 255.0 * filled.reshape(count, side, count, side).mean(axis=(1, 3))
    truth = patches.astype(np.float32)
    left = 1.0 - np.minimum(share / np.maximum(truth[..., instead_of].sum(axis=-1), 1.0), 1.0)
    truth[..., instead_of] *= left[..., None]
    truth[..., group] += share
    return picture, np.rint(np.clip(truth, 0.0, 255.0)).astype(np.uint8)
