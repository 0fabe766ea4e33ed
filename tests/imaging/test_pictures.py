"""Pictures are taken as they are, in the order sent, and say what they lack."""

import hashlib
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from trauma_api.errors import InputError
from trauma_api.imaging.pictures import PictureFacts, picture_warnings, read_pictures
from trauma_api.imaging.quiet import quiet_libraries
from trauma_api.imaging.slices import Entry
from trauma_api.imaging.study import ReadLimits
from trauma_api.imaging.volume import PictureStack
from trauma_api.imaging.windowing import picture_hu

LIMITS = ReadLimits()
EXIF_ORIENTATION = 0x0112


def write_picture(path: Path, level: int, size: tuple[int, int] = (6, 4), kind: str = "PNG") -> Path:
    Image.new("L", size, level).save(path, kind)
    return path


def as_entries(paths: list[Path]) -> list[Entry]:
    return [
        Entry(position, None, path, "picture", hashlib.sha256(path.read_bytes()).hexdigest())
        for position, path in enumerate(paths)
    ]


def pixels_of(facts: PictureFacts, target: Path) -> NDArray[np.uint8]:
    return np.fromfile(target, np.uint8).reshape(facts.shape_zyxc)


def refusal_of(paths: list[Path], target: Path, limits: ReadLimits = LIMITS) -> InputError:
    with pytest.raises(InputError) as refusal:
        read_pictures(as_entries(paths), target, limits)
    return refusal.value


def test_pictures_keep_their_order(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / name, level) for name, level in (("z", 10), ("a", 200))]

    facts = read_pictures(as_entries(paths), tmp_path / "stack", LIMITS)

    assert facts.shape_zyxc == (2, 4, 6, 3)
    assert (tmp_path / "stack").stat().st_size == 2 * 4 * 6 * 3
    assert pixels_of(facts, tmp_path / "stack")[:, 0, 0].tolist() == [[10] * 3, [200] * 3]
    assert facts.series.modality == "picture"
    assert facts.series.spacing_zyx_mm is None
    assert (facts.series.slice_count, facts.series.rows, facts.series.columns) == (2, 4, 6)
    assert not facts.series.lossy


def test_the_facts_cross_a_process_boundary_as_json(tmp_path: Path) -> None:
    facts = read_pictures(as_entries([write_picture(tmp_path / "p", 1)]), tmp_path / "stack", LIMITS)
    adapter = TypeAdapter(PictureFacts)

    assert adapter.validate_json(adapter.dump_json(facts)) == facts


def test_the_series_id_is_of_the_pictures_in_their_order(tmp_path: Path) -> None:
    one, two = as_entries([write_picture(tmp_path / "1", 1), write_picture(tmp_path / "2", 2)])

    ids = [read_pictures(entries, tmp_path / "s", LIMITS).series.series_id for entries in ([one, two], [two, one])]

    assert len(set(ids)) == 2
    assert all(len(bytes.fromhex(one_id)) == 6 for one_id in ids)


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # the first row is the right side: turn clockwise to show
    picture.save(tmp_path / "turned.png", exif=exif)

    facts = read_pictures(as_entries([tmp_path / "turned.png"]), tmp_path / "stack", LIMITS)

    np.testing.assert_array_equal(pixels_of(facts, tmp_path / "stack")[0, :, :, 0], np.rot90(np.asarray(picture), -1))


def test_one_picture_is_in_memory_at_a_time(tmp_path: Path) -> None:
    entries = as_entries([write_picture(tmp_path / str(number), number, (256, 256)) for number in range(30)])
    read_pictures(entries[:1], tmp_path / "stack", LIMITS)

    tracemalloc.start()
    read_pictures(entries, tmp_path / "stack", LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 6 * 256 * 256 * 3


def test_warnings_say_what_pictures_lack_and_which_window_was_assumed() -> None:
    spacing, window = (5.0, 1.0, 1.0), (-100.0, 155.0)
    lacking, assumed = "no-hounsfield-units", "picture-window-assumed"

    assert [warning.code for warning in picture_warnings(None, None)] == [lacking]
    assert [warning.code for warning in picture_warnings(spacing, None)] == [lacking, assumed]
    assert [warning.code for warning in picture_warnings(spacing, window)] == [lacking]


def test_a_stated_window_maps_black_and_white(tmp_path: Path) -> None:
    entries = as_entries([write_picture(tmp_path / str(level), level) for level in (0, 51, 255)])
    pixels = pixels_of(read_pictures(entries, tmp_path / "stack", LIMITS), tmp_path / "stack")

    # 255 levels over 255 HU: one HU per level from -100.
    stated = PictureStack(pixels, (5.0, 1.0, 1.0), (-100.0, 155.0))
    assert picture_hu(stated)[:, 0, 0] == pytest.approx([-100, -49, 155], abs=1e-3)
    assumed = PictureStack(pixels, (5.0, 1.0, 1.0), None)
    assert picture_hu(assumed)[2, 0, 0] == pytest.approx(250)


def test_a_jpeg_is_marked_lossy(tmp_path: Path) -> None:
    entries = as_entries([write_picture(tmp_path / "1.png", 100), write_picture(tmp_path / "2.png", 100, kind="JPEG")])

    assert read_pictures(entries, tmp_path / "stack", LIMITS).series.lossy


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def test_pictures_that_cannot_be_used_are_refused_by_code(tmp_path: Path) -> None:
    quiet_libraries()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "cut").write_bytes(write_picture(tmp_path / "whole", 1).read_bytes()[:50])
    (tmp_path / "bomb").write_bytes(huge_png(30_000))
    cases = {
        "picture-sizes-differ": [write_picture(tmp_path / "a", 1), write_picture(tmp_path / "b", 1, (5, 5))],
        "picture-bit-depth": [tmp_path / "deep.png"],
        "malformed-picture": [tmp_path / "cut"],
        "image-too-large": [tmp_path / "bomb"],
    }

    for code, paths in cases.items():
        assert refusal_of(paths, tmp_path / "stack").code == code
    assert (
        "the file at position 1"
        in refusal_of([tmp_path / "whole", tmp_path / "cut"], tmp_path / "stack").detail.lower()
    )


def test_sides_and_the_whole_stack_are_limited(tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes(huge_png(5_000))
    small = [write_picture(tmp_path / "1", 1), write_picture(tmp_path / "2", 1)]

    assert refusal_of([tmp_path / "wide"], tmp_path / "stack").code == "image-too-large"
    assert refusal_of(small, tmp_path / "stack", ReadLimits(max_picture_side=5)).code == "image-too-large"
    assert refusal_of(small, tmp_path / "stack", ReadLimits(max_voxels=47)).code == "image-too-large"
    assert read_pictures(as_entries(small), tmp_path / "stack", ReadLimits(max_voxels=48)).shape_zyxc == (2, 4, 6, 3)
