"""Pictures are taken as they are, in the order sent, and say what they lack."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.imaging.series_builder import read
from trauma_api.errors import InputError
from trauma_api.imaging.volume import PictureStack
from trauma_api.imaging.windowing import picture_hu


def write_picture(path: Path, level: int, size: tuple[int, int] = (6, 4), kind: str = "PNG") -> Path:
    Image.new("L", size, level).save(path, kind)
    return path


def test_pictures_keep_their_order_and_warn_that_they_have_no_hu(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / name, level) for name, level in (("z", 10), ("a", 200))]

    study = read(paths, tmp_path / "scratch")

    assert isinstance(study.stack, PictureStack)
    assert study.stack.pixels_zyxc.shape == (2, 4, 6, 3)
    assert study.stack.pixels_zyxc[:, 0, 0, 0].tolist() == [10, 200]
    assert study.stack.spacing_zyx_mm is None
    assert [warning.code for warning in study.warnings] == ["no-hounsfield-units"]


def test_a_spacing_without_a_window_says_which_window_was_assumed(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "p", 255)

    study = read([path], tmp_path / "scratch", spacing_zyx_mm=(5.0, 1.0, 1.0))

    assert study.stack.spacing_zyx_mm == (5.0, 1.0, 1.0)
    assert [warning.code for warning in study.warnings] == ["no-hounsfield-units", "picture-window-assumed"]
    assert isinstance(study.stack, PictureStack)
    assert picture_hu(study.stack)[0, 0, 0] == pytest.approx(250)


def test_a_stated_window_maps_black_and_white(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / str(level), level) for level in (0, 51, 255)]

    study = read(paths, tmp_path / "scratch", spacing_zyx_mm=(5.0, 1.0, 1.0), window_hu=(-100.0, 155.0))

    assert isinstance(study.stack, PictureStack)
    # 255 levels over 255 HU: one HU per level from -100.
    assert picture_hu(study.stack)[:, 0, 0] == pytest.approx([-100, -49, 155], abs=1e-3)


def test_order_and_stated_values_change_the_digest(tmp_path: Path) -> None:
    one, two = write_picture(tmp_path / "1", 1), write_picture(tmp_path / "2", 2)

    digests = {
        read([one, two], tmp_path / "s").digest,
        read([two, one], tmp_path / "s").digest,
        read([one, two], tmp_path / "s", spacing_zyx_mm=(1.0, 1.0, 1.0)).digest,
    }

    assert len(digests) == 3


def test_a_jpeg_is_marked_lossy(tmp_path: Path) -> None:
    study = read([write_picture(tmp_path / "p.png", 100, kind="JPEG")], tmp_path / "scratch")

    assert study.series[0].lossy
    assert study.series[0].modality == "picture"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def test_pictures_that_cannot_be_used_are_refused_by_code(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "cut").write_bytes(write_picture(tmp_path / "whole", 1).read_bytes()[:50])
    (tmp_path / "bomb").write_bytes(huge_png(30_000))
    (tmp_path / "wide").write_bytes(huge_png(5_000))
    cases = {
        "picture-sizes-differ": [write_picture(tmp_path / "a", 1), write_picture(tmp_path / "b", 1, (5, 5))],
        "picture-bit-depth": [tmp_path / "deep.png"],
        "malformed-picture": [tmp_path / "cut"],
        "image-too-large": [tmp_path / "bomb"],
    }

    for code, paths in cases.items():
        with pytest.raises(InputError) as refusal:
            read(paths, tmp_path / "scratch")
        assert refusal.value.code == code


def test_a_picture_with_too_long_a_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes(huge_png(5_000))

    with pytest.raises(InputError) as refusal:
        read([tmp_path / "wide"], tmp_path / "scratch")

    assert refusal.value.code == "image-too-large"
