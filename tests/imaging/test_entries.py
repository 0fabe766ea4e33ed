"""Archives are refused before they cost anything, and files are known by their content."""

import bz2
import gzip
import lzma
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from blake3 import blake3

from tests.imaging.raw_files import ct_bytes, scan_all, scan_bytes, write_zip
from trauma_api.errors import InputError
from trauma_api.imaging.study import ReadLimits


def refusal_of(path: Path, limits: ReadLimits | None = None) -> InputError:
    with pytest.raises(InputError) as refusal:
        scan_all([path], path.parent / "scratch", limits)
    return refusal.value


def patched(path: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """The file with ``value`` written ``offset`` bytes after the first ``mark``."""
    content = bytearray(path.read_bytes())
    at = content.index(mark) + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


def with_mode(path: Path, mode: int) -> Path:
    info = zipfile.ZipInfo("entry")
    info.create_system, info.external_attr = 3, mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    return path


def test_entries_are_written_under_numbers_whatever_their_names_are(tmp_path: Path) -> None:
    slice_ = ct_bytes()
    names = ["../../evil", "/etc/evil", "C:\\evil", "nul\x00.dcm", "a/b/c.dcm"]
    archive = write_zip(tmp_path / "x", dict.fromkeys(names, slice_))

    found = scan_all([archive], tmp_path / "scratch")

    assert [record.entry.number for record in found] == [0, 1, 2, 3, 4]
    assert all(record.entry.path.parent == tmp_path / "scratch" for record in found)
    assert {record.entry.path.read_bytes() for record in found} == {slice_}
    assert all(len(record.slices) == 1 for record in found)
    assert {record.entry.digest for record in found} == {blake3(slice_).hexdigest()}
    assert {path.name for path in tmp_path.iterdir()} == {"x", "scratch"}


def test_folders_and_companion_files_are_skipped(tmp_path: Path) -> None:
    archive = write_zip(
        tmp_path / "x", {"a/": b"", "__MACOSX/a/._1": b"mac", "disc/dicomdir": b"index", "a/1": ct_bytes()}
    )

    (record,) = scan_all([archive], tmp_path / "scratch")

    assert record.entry.number == 3
    assert record.entry.where == "entry 3 of the file at position 0"


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600, stat.S_IFCHR | 0o600])
def test_links_and_devices_are_left_out_and_never_followed(tmp_path: Path, mode: int) -> None:
    (record,) = scan_all([with_mode(tmp_path / "x", mode)], tmp_path / "scratch")

    assert record.left_out is not None
    assert record.left_out.code == "special-file"
    assert "Entry 0 of the file at position 0" in record.left_out.detail
    assert record.entry.path.is_file()
    assert not record.entry.path.is_symlink()


def test_zip64_archives_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(ct_bytes())
    content = (tmp_path / "x").read_bytes()
    at = content.index(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<HLL", content, at + 10)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "x").write_bytes(content[:at] + end64 + locator + end)

    (record,) = scan_all([tmp_path / "x"], tmp_path / "scratch")

    assert len(record.slices) == 1


def test_archives_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner", {"a": b"x"}).read_bytes()

    def archive(name: str, method: int = zipfile.ZIP_STORED) -> Path:
        return write_zip(tmp_path / name, {"a": b"content" * 9}, method)

    cut = archive("cut")
    cut.write_bytes(cut.read_bytes()[:-30])
    cases = {
        write_zip(tmp_path / "nested", {"b": inner}): "nested-archive",
        cut: "broken-archive",
        patched(archive("crc"), b"content", 0, b"C"): "broken-archive",
        patched(archive("method"), b"PK\x01\x02", 10, b"\x0c\x00"): "broken-archive",
        patched(archive("deflate", zipfile.ZIP_DEFLATED), b"PK\x03\x04", 31, b"\xff\xff\xff"): "broken-archive",
        patched(archive("encrypted"), b"PK\x01\x02", 8, b"\x01"): "encrypted-archive",
        patched(archive("locally encrypted"), b"PK\x03\x04", 6, b"\x01"): "encrypted-archive",
        patched(archive("offset"), b"PK\x01\x02", 42, b"\xff\xff\xff\x7f"): "broken-archive",
        patched(archive("zip64 without its field"), b"PK\x01\x02", 24, b"\xff\xff\xff\xff"): "broken-archive",
        patched(archive("second disk"), b"PK\x05\x06", 4, b"\x01\x00"): "broken-archive",
        patched(archive("directory size"), b"PK\x05\x06", 12, b"\xff\xff\x00\x00"): "broken-archive",
    }

    assert {path.name: refusal_of(path).code for path in cases} == {path.name: code for path, code in cases.items()}


@pytest.mark.parametrize("forged_size", [1_000, 100_000])
def test_an_entry_never_inflates_to_more_than_it_declares(tmp_path: Path, forged_size: int) -> None:
    archive = write_zip(tmp_path / "x", {"a": bytes(50_000)})
    patched(archive, b"PK\x01\x02", 24, struct.pack("<L", forged_size))

    assert refusal_of(archive).code == "broken-archive"
    written = [path.stat().st_size for path in (tmp_path / "scratch").glob("00000-*")]
    assert sum(written) <= forged_size


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ReadLimits(max_files=1), "too-many-files"),
        (ReadLimits(max_entry_bytes=3_999), "expanded-too-large"),
        (ReadLimits(max_expanded_bytes=7_999), "expanded-too-large"),
        (ReadLimits(ratio_free_bytes=3_999, max_entry_ratio=10), "expanded-too-large"),
        (ReadLimits(ratio_free_bytes=7_999, max_total_ratio=10), "expanded-too-large"),
    ],
)
def test_limits_are_checked_before_anything_is_inflated(tmp_path: Path, limits: ReadLimits, code: str) -> None:
    archive = write_zip(tmp_path / "x", {"a": bytes(4_000), "b": bytes(4_000)})

    refusal = refusal_of(archive, limits)

    assert (refusal.code, refusal.status) == (code, 413)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert len(scan_all([archive], tmp_path / "again")) == 2


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    kernel = zlib.compress(bytes(2**20))[2:-4]
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(kernel), 2**20, 1, 0) + b"a" + kernel
    record = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, 0, len(kernel), 2**20, 1, 0, 0, 0, 0, 0, 0)
    directory = (record + b"a") * 10
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 10, 10, len(directory), len(local), 0)
    (tmp_path / "x").write_bytes(local + directory + end)

    assert refusal_of(tmp_path / "x", ReadLimits(max_total_ratio=2_000)).code == "broken-archive"


@pytest.mark.parametrize("claimed", [0, 1, 0xFFFF])
def test_a_million_entries_are_refused_at_once_whatever_their_count_claims(tmp_path: Path, claimed: int) -> None:
    record = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = record * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, claimed, claimed, len(directory), 4, 0)
    (tmp_path / "x").write_bytes(b"PK\x03\x04" + directory + end)
    del directory

    tracemalloc.start()
    begun = time.perf_counter()
    refusal = refusal_of(tmp_path / "x")
    seconds = time.perf_counter() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert refusal.code == "too-many-files"
    assert seconds < 1
    assert peak < 32 * 2**20


def test_a_count_that_lies_does_not_help(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x", {str(number): b"" for number in range(50)})
    patched(archive, b"PK\x05\x06", 8, b"\x01\x00\x01\x00")

    assert refusal_of(archive, ReadLimits(max_files=5)).code == "too-many-files"


def test_files_of_all_archives_count_together(tmp_path: Path) -> None:
    archives = [write_zip(tmp_path / name, {"a": bytes(300), "b": bytes(300)}) for name in "xy"]

    for limits, code in [
        (ReadLimits(max_files=3), "too-many-files"),
        (ReadLimits(max_expanded_bytes=1_000), "expanded-too-large"),
    ]:
        with pytest.raises(InputError) as refusal:
            scan_all(archives, tmp_path / "scratch", limits)
        assert refusal.value.code == code


def test_an_empty_archive_holds_nothing(tmp_path: Path) -> None:
    assert scan_all([write_zip(tmp_path / "x", {})], tmp_path / "scratch") == []


def test_gzipped_dicom_is_inflated_and_hashed_inflated(tmp_path: Path) -> None:
    slice_ = ct_bytes()
    half = len(slice_) // 2

    for packed in (gzip.compress(slice_), gzip.compress(slice_[:half]) + gzip.compress(slice_[half:])):
        record = scan_bytes(packed, tmp_path)

        assert record.entry.kind == "dicom"
        assert record.entry.digest == blake3(slice_).hexdigest()
        assert record.entry.path.read_bytes() == slice_
        assert len(record.slices) == 1


def test_gzip_bombs_and_damaged_gzip_files_are_refused(tmp_path: Path) -> None:
    nifti = b"\x5c\x01\x00\x00" + bytes(340) + b"n+1\x00"
    (tmp_path / "bomb").write_bytes(gzip.compress(nifti + bytes(40 * 2**20)))
    (tmp_path / "cut").write_bytes(gzip.compress(nifti + bytes(range(256)))[:-30])
    (tmp_path / "fine").write_bytes(gzip.compress(nifti + bytes(1000)))

    assert refusal_of(tmp_path / "bomb").code == "expanded-too-large"
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) <= 17 * 2**20
    assert refusal_of(tmp_path / "cut").code == "broken-archive"
    assert scan_all([tmp_path / "fine"], tmp_path / "scratch")[0].entry.kind == "nifti"


def test_what_all_compressed_files_inflate_to_counts_together(tmp_path: Path) -> None:
    # their generated UIDs differ in length, and so do the slices
    slices = {name: ct_bytes() for name in "abc"}
    for name, slice_ in slices.items():
        (tmp_path / name).write_bytes(gzip.compress(slice_))
    paths = [tmp_path / name for name in slices]
    total = sum(map(len, slices.values()))

    assert len(scan_all(paths, tmp_path / "enough", ReadLimits(max_expanded_bytes=total))) == 3
    with pytest.raises(InputError) as refusal:
        scan_all(paths, tmp_path / "short", ReadLimits(max_expanded_bytes=total - 1))
    assert refusal.value.code == "expanded-too-large"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"a tar"), bz2.compress(b"x"), lzma.compress(b"x"), b"7z\xbc\xaf"],
    ids=["gzip", "bzip2", "xz", "7z"],
)
def test_other_archives_are_no_images(tmp_path: Path, content: bytes) -> None:
    record = scan_bytes(content, tmp_path)

    assert (record.entry.kind, record.slices, record.left_out) == ("unknown", (), None)
    assert record.entry.digest == blake3(content).hexdigest()


@pytest.mark.parametrize(
    "magic", [b"PK\x03\x04", b"MZ", b"\x7fELF", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08"]
)
def test_a_dicom_file_may_start_like_anything_else(tmp_path: Path, magic: bytes) -> None:
    slice_ = ct_bytes()

    record = scan_bytes(magic + slice_[len(magic) :], tmp_path)

    assert record.entry.kind == "dicom"
    assert len(record.slices) == 1


def test_large_files_are_hashed_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 12_000

    assert scan_bytes(content, tmp_path).entry.digest == blake3(content).hexdigest()
