"""The header pass: shared among children, one bad file left out, deflated files inflated within limits."""

import resource
import threading
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import pytest
from blake3 import blake3

from tests.imaging.raw_files import (
    DEFLATED,
    ct_bytes,
    element,
    scan_all,
    scan_bytes,
    uploaded,
    write_zip,
)
from trauma_api.errors import InputError
from trauma_api.imaging.scan import Begun, Share, scan
from trauma_api.imaging.slices import ScannedEntry
from trauma_api.imaging.study import ReadLimits


def write_mixture(folder: Path) -> list[Path]:
    """Two loose slices around an archive of three, and a file that is no image."""
    loose = [folder / "first", folder / "last"]
    for number, path in enumerate(loose):
        path.write_bytes(ct_bytes(InstanceNumber=number))
    archive = write_zip(folder / "zip", {"sub/": b"", **{f"sub/{n}": ct_bytes(InstanceNumber=n) for n in (10, 11, 12)}})
    (folder / "text").write_text("hello")
    return [loose[0], archive, folder / "text", loose[1]]


def place(record: Begun | ScannedEntry) -> tuple[int, int | None]:
    if isinstance(record, Begun):
        return record.position, record.number
    return record.entry.position, record.entry.number


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shares_cover_every_file_once(tmp_path: Path, count: int) -> None:
    paths = write_mixture(tmp_path)
    scratch = tmp_path / "scratch"

    shares = [scan_all(paths, scratch, share=Share(number, count)) for number in range(count)]

    places = [(0, None), (1, 1), (1, 2), (1, 3), (2, None), (3, None)]
    assert Counter(place(record) for share in shares for record in share) == Counter(places)
    assert max(len(share) for share in shares) - min(len(share) for share in shares) <= 1
    assert sum(len(record.slices) for share in shares for record in share) == 5


def test_shares_may_run_at_once(tmp_path: Path) -> None:
    paths = write_mixture(tmp_path)
    found: list[ScannedEntry] = []

    def work(number: int) -> None:
        found.extend(scan_all(paths, tmp_path / "scratch", share=Share(number, 2)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(record.entry.digest for record in found) == sorted(
        record.entry.digest for record in scan_all(paths, tmp_path / "alone")
    )


def test_each_file_is_announced_before_it_is_touched(tmp_path: Path) -> None:
    paths = write_mixture(tmp_path)
    (tmp_path / "scratch").mkdir()
    running = scan(uploaded(paths), tmp_path / "scratch", Share(0, 1), ReadLimits())

    announced = next(running)
    paths[0].write_bytes(ct_bytes(Modality="MR"))
    record = next(running)

    assert announced == Begun(0, None)
    assert isinstance(record, ScannedEntry)
    assert record.slices[0].modality == "MR"
    rest = [place(record) for record in running]
    assert rest[::2] == rest[1::2]


def test_files_that_are_skipped_are_not_touched(tmp_path: Path) -> None:
    paths = write_mixture(tmp_path)
    (tmp_path / "scratch").mkdir()
    skip = frozenset({(0, None), (1, 2), (2, None)})

    found = list(scan(uploaded(paths), tmp_path / "scratch", Share(0, 1), ReadLimits(), skip))

    assert {place(record) for record in found} == {(1, 1), (1, 3), (3, None)}
    assert len(list((tmp_path / "scratch").iterdir())) == 2


def test_a_scan_that_was_cut_off_can_be_run_again(tmp_path: Path) -> None:
    paths = write_mixture(tmp_path)

    first, second = (scan_all(paths, tmp_path / "scratch") for _ in range(2))

    assert first == second


def test_one_damaged_file_is_left_out_and_named_by_position(tmp_path: Path) -> None:
    rows, rows_of_three_bytes = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00US\x03\x00"
    (tmp_path / "SECRET").write_bytes(ct_bytes().replace(rows, rows_of_three_bytes))
    (tmp_path / "good").write_bytes(ct_bytes())

    good, bad = scan_all([tmp_path / "good", tmp_path / "SECRET"], tmp_path / "scratch")

    assert len(good.slices) == 1
    assert bad.left_out is not None
    assert bad.left_out.code == "malformed-dicom"
    assert bad.left_out.detail.startswith("The file at position 1 is damaged DICOM.")
    assert bad.entry.digest == blake3((tmp_path / "SECRET").read_bytes()).hexdigest()


def test_a_file_without_the_mark_that_does_not_parse_is_just_unknown(tmp_path: Path) -> None:
    record = scan_bytes(b"\x08\x00\x05\x00CS\xff\xff and so on", tmp_path)

    assert (record.entry.kind, record.slices, record.left_out) == ("unknown", (), None)


def test_dicom_without_an_image_is_not_a_fault(tmp_path: Path) -> None:
    report = ct_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None, Columns=None, PixelData=None)
    directory = bytes(128) + b"DICM" + element(0x00020002, "UI", b"1.2.840.10008.1.3.10") + b"\x04\x00 whatever"

    for content in (report, directory):
        record = scan_bytes(content, tmp_path)
        assert (record.entry.kind, record.slices, record.left_out) == ("dicom", (), None)


def test_a_ct_image_without_rows_is_damaged(tmp_path: Path) -> None:
    record = scan_bytes(ct_bytes(Rows=None), tmp_path)

    assert record.left_out is not None
    assert record.left_out.code == "malformed-dicom"


def deflated_file(content: bytes) -> bytes:
    """A DICOM file whose deflated dataset is ``content``."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    meta = element(0x00020010, "UI", DEFLATED.encode())
    return bytes(128) + b"DICM" + meta + engine.compress(content) + engine.flush()


def test_deflated_dicom_is_inflated_to_explicit_little_endian(tmp_path: Path) -> None:
    record = scan_bytes(ct_bytes(DEFLATED), tmp_path)

    (header,) = record.slices
    inflated = record.entry.path.read_bytes()
    assert record.entry.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert header.transfer_syntax_uid == DEFLATED
    assert record.entry.digest == blake3(inflated).hexdigest()
    assert header.pixels.offset is not None
    assert inflated[header.pixels.offset :][:24] == bytes(range(24))
    assert header.entry == record.entry


def test_deflate_bombs_are_refused_quickly_and_in_little_memory(tmp_path: Path) -> None:
    bomb = deflated_file(element(0x00080060, "CS", b"CT") + bytes(256 * 2**20))
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    tracemalloc.start()

    with pytest.raises(InputError) as refusal:
        scan_bytes(bomb, tmp_path)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (refusal.value.code, refusal.value.status) == ("expanded-too-large", 413)
    assert sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu < 1
    assert peak < 16 * 2**20
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) <= 2**25


def test_the_entry_limit_holds_for_deflated_files(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        scan_bytes(ct_bytes(DEFLATED), tmp_path, ReadLimits(max_entry_bytes=100))

    assert refusal.value.code == "expanded-too-large"


@pytest.mark.parametrize("damage", ["garbage", "cut", "nothing"])
def test_damaged_deflated_files_are_left_out(tmp_path: Path, damage: str) -> None:
    whole = ct_bytes(DEFLATED)
    start = len(whole) - 40
    content = {
        "garbage": deflated_file(b"")[:-2] + b"\xff" * 90,
        "cut": whole[:start],
        "nothing": deflated_file(b"")[:-2],
    }[damage]

    record = scan_bytes(content, tmp_path)

    assert record.left_out is not None
    assert record.left_out.code == "malformed-dicom"


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["dicom_edge/malformed_headers", "dicom_edge/charset", "fuzz"])
def test_no_real_malformed_file_raises_anything_but_a_refusal(real_data: Path, tmp_path: Path, folder: str) -> None:
    paths = sorted(path for path in (real_data / folder).rglob("*") if path.is_file())
    outcomes: Counter[str] = Counter()

    for number, path in enumerate(paths):
        begun = time.perf_counter()
        try:
            records = scan_all([path], tmp_path / str(number))
        except InputError as refusal:
            outcomes[refusal.code] += 1
        else:
            outcomes.update(record.left_out.code if record.left_out else "read" for record in records)
        assert time.perf_counter() - begun < 2

    assert outcomes["read"] > len(paths) / 2
