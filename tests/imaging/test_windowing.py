"""Windows turn HU into the grey levels of the published recipe."""

import numpy as np
import pytest

from trauma_api.imaging.volume import CTVolume, PictureStack
from trauma_api.imaging.windowing import WINDOWS_HU, grey, model_rgb


def test_model_picture_has_the_three_windows_of_the_recipe() -> None:
    values = np.array([[[-1024, -135, 0, 40, 80, 215, 1024]]], dtype=np.int16)

    rgb = model_rgb(CTVolume(values, None), 0)

    assert rgb.dtype == np.uint8
    # R is (hu + 1024) / 2048 * 255, G (hu + 135) / 350 * 255, B hu / 80 * 255, clipped and rounded half to even.
    assert rgb[0, :, 0].tolist() == [0, 111, 128, 132, 137, 154, 255]
    assert rgb[0, :, 1].tolist() == [0, 0, 98, 128, 157, 255, 255]
    assert rgb[0, :, 2].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_model_picture_of_a_picture_is_the_picture() -> None:
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)

    np.testing.assert_array_equal(model_rgb(PictureStack(pixels), 1), pixels[1])


def test_a_slice_that_does_not_exist_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        model_rgb(CTVolume(np.zeros((1, 2, 2), dtype=np.int16), None), 1)


def test_named_windows_span_black_to_white() -> None:
    assert WINDOWS_HU["abdomen"] == (-160, 240)
    assert WINDOWS_HU["blood"] == (-20, 100)
    for low, high in WINDOWS_HU.values():
        edges = np.array([low - 1, low, high, high + 1], dtype=np.float32)
        assert grey(edges, (low, high)).tolist() == [0, 0, 255, 255]
