"""The pictures that are made where the model is are those that it was trained on."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trauma_api.engines.ct_windows import windowed_squares
from trauma_api.imaging.volume import CTVolume
from trauma_api.imaging.windowing import MODEL_WINDOWS_HU, grey, model_rgb, padded_to_square, trunk_slice


@pytest.mark.parametrize("shape_yx", [(60, 90), (91, 60), (64, 64)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_squares_are_the_model_pictures_of_the_same_slices(
    shape_yx: tuple[int, int], dtype: type[np.int16] | type[np.float32]
) -> None:
    voxels: NDArray[Any] = np.random.default_rng(3).uniform(-1500, 1500, (3, *shape_yx)).astype(dtype)
    stack = CTVolume(voxels, None)

    squares = windowed_squares(np.stack([trunk_slice(stack, index) for index in range(3)]), torch.device("cpu"))

    expected = np.stack([model_rgb(stack, index) for index in range(3)])
    np.testing.assert_array_equal(squares.permute(0, 2, 3, 1).numpy(), expected)


def test_every_hu_that_a_scanner_gives_has_the_same_levels() -> None:
    values = np.arange(-1100, 1100, dtype=np.int16).reshape(1, 44, 50)
    squares = windowed_squares(values, torch.device("cpu"))
    expected = padded_to_square(np.stack([grey(values[0], window) for window in MODEL_WINDOWS_HU], axis=-1))
    np.testing.assert_array_equal(squares[0].permute(1, 2, 0).numpy(), expected)


def test_only_the_trunk_goes_to_the_model() -> None:
    voxels = np.full((2, 128, 128), -1000, np.int16)
    voxels[:, 40:80, 50:90] = 40
    stack = CTVolume(voxels, None)
    np.testing.assert_array_equal(trunk_slice(stack, 1), voxels[1][stack.trunk_box])
    with pytest.raises(IndexError):
        trunk_slice(stack, 2)
