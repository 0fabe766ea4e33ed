"""The models' pictures of CT slices, made where the model is."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trauma_api.imaging.windowing import MODEL_WINDOWS_HU


def windowed_squares(slices_zyx_hu: NDArray[Any], device: torch.device) -> torch.Tensor:
    """What `trauma_api.imaging.windowing.model_rgb` makes of slices that are cropped to the trunk.

    int16 or float32 HU (slices, rows, columns) become uint8 (slices, 3, side, side) on the device: the three windows of
    MedGemma's CT recipe, in the middle of a black square. Only the HU are uploaded. An accelerator may divide less
    exactly, so a level that lies between two can be the other one there.
    """
    hu = torch.from_numpy(np.ascontiguousarray(slices_zyx_hu)).to(device).float()
    count, rows, columns = hu.shape
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    squares = torch.zeros((count, len(MODEL_WINDOWS_HU), side, side), dtype=torch.uint8, device=device)
    inside = squares[:, :, top : top + rows, left : left + columns]
    for channel, (low, high) in enumerate(MODEL_WINDOWS_HU):
        inside[:, channel] = hu.clamp(low, high).sub_(low).div_(high - low).mul_(255).round_()
    return squares
