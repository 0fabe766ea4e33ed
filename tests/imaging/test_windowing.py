"""Windows turn HU into the grey levels of the published recipe."""

import numpy as np
import pytest

from trauma_api.imaging.volume import CTVolume, PictureStack
from trauma_api.imaging.windowing import WINDOWS_HU, grey, model_rgb, padded_to_square, trunk_slice


def test_model_picture_has_the_three_windows_of_the_recipe() -> None:
    values = np.array([[[-1024, -135, 0, 40, 80, 215, 1024]]], dtype=np.int16)

    square = model_rgb(CTVolume(values, None), 0)

    assert square.dtype == np.uint8
    assert square.shape == (7, 7, 3)
    rgb = square[3:4]
    assert not square[:3].any()
    assert not square[4:].any()
    # R is (hu + 1024) / 2048 * 255, G (hu + 135) / 350 * 255, B hu / 80 * 255, clipped and rounded half to even.
    assert rgb[0, :, 0].tolist() == [0, 111, 128, 132, 137, 154, 255]
    assert rgb[0, :, 1].tolist() == [0, 0, 98, 128, 157, 255, 255]
    assert rgb[0, :, 2].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_model_picture_is_the_trunk_of_the_whole_study_in_the_middle_of_a_square() -> None:
    voxels = np.full((3, 128, 200), -1000, dtype=np.int16)
    voxels[0, 40:70, 60:120] = 40
    voxels[2, 50:80, 70:130] = 40
    # a table top, thinner than any trunk
    voxels[:, 100:101, 20:180] = 40

    first, middle, last = (model_rgb(CTVolume(voxels, None), index)[..., 2] for index in range(3))

    rows, columns = CTVolume(voxels, None).trunk_box
    assert (rows.start, rows.stop) == (34, 86)
    assert (columns.start, columns.stop) == (54, 136)
    assert first.shape == middle.shape == last.shape == (82, 82)
    assert not middle.any()
    # one crop for all slices, so that what moves in the body moves in the pictures
    assert np.flatnonzero(last.any(axis=1))[0] - np.flatnonzero(first.any(axis=1))[0] == 10
    assert int((first > 0).sum()) == int((last > 0).sum()) == 30 * 60


def test_the_trunk_of_a_volume_of_air_is_all_of_it() -> None:
    assert CTVolume(np.full((2, 40, 60), -1000, np.int16), None).trunk_box == (slice(0, 40), slice(0, 60))


@pytest.mark.parametrize(("rows", "columns"), [(20, 50), (51, 20), (30, 30)])
def test_a_picture_is_centred_on_black(rows: int, columns: int) -> None:
    square = padded_to_square(np.full((rows, columns, 3), 200, np.uint8))
    side = max(rows, columns)
    assert square.shape == (side, side, 3)
    assert int(square.astype(int).sum()) == rows * columns * 3 * 200
    top, left = (side - rows) // 2, (side - columns) // 2
    assert (square[top : top + rows, left : left + columns] == 200).all()


def test_model_picture_of_a_picture_is_the_picture() -> None:
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)

    np.testing.assert_array_equal(model_rgb(PictureStack(pixels), 1), pixels[1])
    np.testing.assert_array_equal(trunk_slice(PictureStack(pixels), 1), pixels[1])


def test_a_slice_that_does_not_exist_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        model_rgb(CTVolume(np.zeros((1, 2, 2), dtype=np.int16), None), 1)


def test_named_windows_span_black_to_white() -> None:
    assert WINDOWS_HU["abdomen"] == (-160, 240)
    assert WINDOWS_HU["blood"] == (-20, 100)
    for low, high in WINDOWS_HU.values():
        edges = np.array([low - 1, low, high, high + 1], dtype=np.float32)
        assert grey(edges, (low, high)).tolist() == [0, 0, 255, 255]
