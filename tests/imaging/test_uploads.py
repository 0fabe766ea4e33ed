"""Files are known by content; archives, copies and foreign files change nothing silently."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.imaging.series_builder import SeriesBuilder, ramp, read, stacked
from trauma_api.errors import InputError
from trauma_api.imaging.uploads import ReadLimits


def write_series(folder: Path) -> list[Path]:
    return SeriesBuilder(ramp(), stacked(5)).write(folder)


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_archive_and_loose_files_have_the_same_digest_in_any_order(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")
    archive = write_zip(tmp_path / "x", {f"a/{index}": path.read_bytes() for index, path in enumerate(paths)})

    loose = read(paths[::-1], tmp_path / "s1")
    packed = read([archive], tmp_path / "s2")

    assert loose.digest == packed.digest
    assert len(loose.digest) == 64
    assert packed.warnings == ()


def test_archive_names_are_not_used_and_folders_and_indexes_are_skipped(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")
    members = {f"../../{index}.png": path.read_bytes() for index, path in enumerate(paths)}
    archive = write_zip(
        tmp_path / "x.dcm", {**members, "empty/": b"", "__MACOSX/._1": b"mac", "disc/DICOMDIR": b"index"}
    )

    study = read([archive], tmp_path / "scratch")

    assert study.stack.slice_count == 5
    assert study.warnings == ()
    assert {path.parent.name for path in tmp_path.rglob("00000-*")} == {"unpacked"}


def test_files_that_are_no_images_are_left_out_and_counted(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")
    (tmp_path / "a.dcm").write_text("not DICOM")
    (tmp_path / "b.png").write_bytes(b"")

    study = read([tmp_path / "a.dcm", *paths, tmp_path / "b.png"], tmp_path / "scratch")

    assert [(warning.code, warning.detail) for warning in study.warnings] == [
        ("files-left-out", "2 files were left out, not being images.")
    ]


def test_a_file_sent_twice_counts_once(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")

    study = read([*paths, paths[2]], tmp_path / "scratch")

    once = read(paths, tmp_path / "again")
    assert study.stack.slice_count == 5
    assert [warning.code for warning in study.warnings] == ["duplicate-files"]
    assert once.warnings == ()
    # Another study, so that neither shows the warnings of the other.
    assert study.digest != once.digest


def test_an_upload_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slice.dcm").write_text("hello")

    for paths in ([], [tmp_path / "slice.dcm"]):
        with pytest.raises(InputError) as refusal:
            read(paths, tmp_path / "scratch")
        assert refusal.value.code == "unrecognized-upload"


def test_of_several_kinds_dicom_is_taken_and_the_rest_left_out(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "p.png")

    study = read([tmp_path / "p.png", *paths], tmp_path / "scratch")

    assert study.source == "dicom"
    assert study.stack.slice_count == 5
    assert [warning.code for warning in study.warnings] == ["other-images-left-out"]


def test_dicom_without_ct_does_not_stand_in_the_way_of_pictures(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(2), stacked(2), overrides={"Modality": "MR"}).write(tmp_path / "in")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "p.png")

    assert read([tmp_path / "p.png", *paths], tmp_path / "scratch").source == "pictures"


def test_a_spacing_is_refused_for_dicom(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read(write_series(tmp_path / "in"), tmp_path / "scratch", spacing_zyx_mm=(1.0, 1.0, 1.0))

    assert refusal.value.code == "spacing-not-wanted"


@pytest.mark.parametrize(("stated", "value"), [("spacing_zyx_mm", (1.0, 0.0, 1.0)), ("window_hu", (100.0, 100.0))])
def test_stated_values_that_cannot_be_true_are_refused(tmp_path: Path, stated: str, value: tuple[float, ...]) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "p.png")

    with pytest.raises(InputError) as refusal:
        read([tmp_path / "p.png"], tmp_path / "scratch", **{stated: value})

    assert refusal.value.code == "stated-values-unusable"


def test_archives_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner", {"a": b"x"})
    nested = write_zip(tmp_path / "nested", {"b": inner.read_bytes()})
    cut = tmp_path / "cut"
    cut.write_bytes(nested.read_bytes()[:40])
    damaged = bytearray(write_zip(tmp_path / "stored", {"a": b"content"}, zipfile.ZIP_STORED).read_bytes())
    damaged[32] ^= 0xFF
    (tmp_path / "damaged").write_bytes(damaged)
    encrypted = bytearray(inner.read_bytes())
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "encrypted").write_bytes(encrypted)

    for name, code in {
        "nested": "nested-archive",
        "cut": "broken-archive",
        "damaged": "broken-archive",
        "encrypted": "encrypted-archive",
    }.items():
        with pytest.raises(InputError) as refusal:
            read([tmp_path / name], tmp_path / f"scratch-{name}")
        assert refusal.value.code == code


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ReadLimits(max_files=1), "too-many-files"),
        (ReadLimits(max_entry_bytes=1_000), "expanded-too-large"),
        (ReadLimits(max_expanded_bytes=5_000), "expanded-too-large"),
    ],
)
def test_limits_are_counted_while_unpacking(tmp_path: Path, limits: ReadLimits, code: str) -> None:
    archive = write_zip(tmp_path / "x", {"a": bytes(4_000), "b": bytes(4_000)})

    with pytest.raises(InputError) as refusal:
        read([archive], tmp_path / "scratch", limits=limits)

    assert refusal.value.code == code
    assert refusal.value.status == 413


def test_a_damaged_dicom_file_is_named_by_position_only(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in")
    broken = tmp_path / "SECRET^NAME"
    rows, rows_of_three_bytes = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00US\x03\x00"
    broken.write_bytes(paths[3].read_bytes().replace(rows, rows_of_three_bytes))

    study = read([*paths[:4], broken], tmp_path / "at-the-end")
    with pytest.raises(InputError) as gap:
        read([*paths[:3], broken, paths[4]], tmp_path / "in-the-middle")
    with pytest.raises(InputError) as alone:
        read([broken], tmp_path / "alone")

    assert study.stack.slice_count == 4
    assert [(warning.code, warning.detail) for warning in study.warnings] == [
        ("malformed-dicom", "1 file was left out: the file at position 4.")
    ]
    assert gap.value.code == "missing-slices"
    assert "position 3" in gap.value.detail
    assert alone.value.code == "malformed-dicom"
    assert "position 0" in alone.value.detail
    assert "SECRET" not in str((study.warnings, gap.value, alone.value))
