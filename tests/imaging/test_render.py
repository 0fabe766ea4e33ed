"""Rendered slices keep the body's proportions and show the mask."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trauma_api.imaging.render import UnknownWindowError, slice_png
from trauma_api.imaging.volume import CTVolume, PictureStack


def decoded(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def volume(hu: int, row_mm: float = 1.0, column_mm: float = 1.0) -> CTVolume:
    affine = np.array([[0, 0, column_mm, 0], [0, row_mm, 0, 0], [-5, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    return CTVolume(np.full((2, 100, 100), hu, dtype=np.int16), affine)


def test_pixels_that_are_not_square_are_shown_in_proportion() -> None:
    height, width, _ = decoded(slice_png(volume(0, row_mm=2.0), 0, "abdomen", None)).shape

    assert height == 2 * width
    assert height >= 512


def test_the_window_sets_the_grey_level() -> None:
    shown = decoded(slice_png(volume(40), 0, "abdomen", None))

    # (40 + 160) / 400 * 255 = 127.5, rounded half to even; away from caption and side mark.
    assert shown[150, 300].tolist() == [128, 128, 128]


def test_the_mask_is_red_inside_with_a_pure_outline_and_nothing_outside() -> None:
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[30:50, 40:60] = True

    shown = decoded(slice_png(volume(-160), 0, "abdomen", mask))

    # 100 pixels are enlarged 6 times to 600.
    assert shown[240, 300].tolist() == [89, 0, 0]  # 0.35 * 255
    assert shown[180, 300].tolist() == [255, 0, 0]
    assert shown[240, 500].tolist() == [0, 0, 0]


def test_caption_and_side_are_burned_in() -> None:
    shown = decoded(slice_png(volume(-1000), 0, "abdomen", None))

    assert shown[-30:, 150:450].max() == 255
    assert shown[280:320, :40].max() == 255
    assert shown[:250].max() == 0


def test_a_picture_is_shown_as_it_is_without_a_side() -> None:
    pixels = np.zeros((1, 600, 600, 3), dtype=np.uint8)
    pixels[..., 1] = 77

    shown = decoded(slice_png(PictureStack(pixels), 0, "bone", None))

    assert (shown[:500] == [0, 77, 0]).all()


def test_an_unknown_window_and_a_mask_of_another_shape_are_refused() -> None:
    with pytest.raises(UnknownWindowError):
        slice_png(volume(0), 0, "no such window", None)
    with pytest.raises(ValueError, match="mask"):
        slice_png(volume(0), 0, "abdomen", np.zeros((5, 5), dtype=np.bool_))


class TestTrunkOnly:
    def body(self) -> CTVolume:
        """120 rows, 200 columns of 1 mm; the trunk lies in rows 40 to 80 and columns 60 to 140."""
        voxels = np.full((3, 120, 200), -1000, np.int16)
        voxels[:, 40:80, 60:140] = 40
        return CTVolume(voxels, volume(0).affine_lps)

    def test_the_air_around_the_trunk_is_left_out(self) -> None:
        height, width, _ = decoded(slice_png(self.body(), 1, "abdomen", None, trunk_only=True)).shape
        assert width / height == pytest.approx(80 / 40, rel=0.15)

    def test_a_mask_beside_the_trunk_is_shown_whole(self) -> None:
        mask = np.zeros((120, 200), bool)
        mask[55:65, 185:199] = True
        shown = decoded(slice_png(self.body(), 1, "abdomen", mask, trunk_only=True))
        whole = decoded(slice_png(self.body(), 1, "abdomen", mask))
        red = [((one[..., 0] > 200) & (one[..., 1] < 60)).sum() / one[..., 0].size for one in (shown, whole)]
        assert red[0] > red[1] > 0
