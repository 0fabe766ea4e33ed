"""Grey levels from HU and back: what models see and what people see."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.volume import CTVolume, HUArray, ImageStack, PictureStack

MODEL_WINDOWS_HU: tuple[tuple[float, float], ...] = ((-1024, 1024), (-135, 215), (0, 80))
"""Red, green and blue of the MedGemma 1.5 CT recipe: Google-Health/medgemma, high_dimensional_ct_hugging_face.ipynb."""

WINDOWS_HU: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "abdomen": (-160.0, 240.0),
        "blood": (-20.0, 100.0),
        "liver": (-45.0, 105.0),
        "bone": (-400.0, 1400.0),
        "lung": (-1350.0, 150.0),
    }
)
"""Named display windows, lowest and highest HU. Liver, bone and lung are the usual width and level: 150/30, 1800/500,
1500/-600."""

ASSUMED_WINDOW_HU = (-150.0, 250.0)
"""What black to white of a picture is taken for when its sender states no window: a soft-tissue window, 400/50."""


def grey(slice_hu: HUArray, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Clip to the window's lowest and highest HU and scale to 0..255, rounded. Any shape; HU in, grey levels out."""
    low, high = window
    # in place: fresh memory for each step took four times as long as the arithmetic
    level = np.clip(slice_hu, low, high, out=np.empty(slice_hu.shape, np.float32), dtype=np.float32)
    level -= low
    level /= high - low
    level *= 255
    return np.rint(level, out=level).astype(np.uint8)


def model_rgb(stack: ImageStack, index: int) -> NDArray[np.uint8]:
    """The slice as the vision models were trained to see it: uint8 (rows, columns, 3).

    CT is shown in three windows, one per channel (`MODEL_WINDOWS_HU`), and cropped to the trunk, so that the models'
    few pixels are spent on it, in the middle of a black square; the crop is that of the whole study. A picture is shown
    as it is. Raises IndexError.
    """
    if isinstance(stack, PictureStack):
        return np.asarray(stack.pixels_zyxc[index])
    slice_hu = _trunk_hu(stack, index)
    return padded_to_square(np.stack([grey(slice_hu, window) for window in MODEL_WINDOWS_HU], axis=-1))


def trunk_slice(stack: ImageStack, index: int) -> HUArray | NDArray[np.uint8]:
    """What `model_rgb` makes its picture of: CT cropped to the trunk, (rows, columns) in HU, or a picture as it is.

    For engines that window where their model is. Raises IndexError.
    """
    if isinstance(stack, PictureStack):
        return np.asarray(stack.pixels_zyxc[index])
    return _trunk_hu(stack, index)


def _trunk_hu(stack: CTVolume, index: int) -> HUArray:
    return np.asarray(stack.voxels_zyx_hu[index][stack.trunk_box])


def padded_to_square(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture in the middle of a black square, as MedSigLIP was trained; (rows, columns, 3)."""
    rows, columns = image_rgb.shape[:2]
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.pad(image_rgb, ((top, side - rows - top), (left, side - columns - left), (0, 0)))


def picture_hu(stack: PictureStack) -> NDArray[np.float32]:
    """HU guessed from grey levels: float32 (pictures, rows, columns).

    The mean of red, green and blue, with 0 to 255 mapped linearly onto the stated window, or onto -150..250 HU.
    """
    low, high = stack.window_hu or ASSUMED_WINDOW_HU
    level = stack.pixels_zyxc.mean(axis=-1, dtype=np.float32)
    return np.asarray(level * np.float32((high - low) / 255.0) + np.float32(low), dtype=np.float32)
