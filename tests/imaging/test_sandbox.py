"""Children are bounded, and what kills one is told and costs one file."""

import gzip
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.series_builder import SeriesBuilder, ramp, stacked
from tests.support.attacks import ct, nifti, wide
from tests.support.studies import phantom_slices
from trauma_api.errors import InputError
from trauma_api.imaging.sandbox.bounds import ChildBounds
from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.sandbox.jobs import Reading, scan_files
from trauma_api.imaging.sandbox.messages import Ended, Failed
from trauma_api.imaging.uploads import ReadLimits, Stated, UploadedFile, read_upload

LONG = 24_000_000
"""Elements that no processor at hand reads in a second."""
NO_LIMITS = ReadLimits(max_elements=10**9, max_entry_ratio=10**9, max_total_ratio=10**9, min_side=1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose children have a second for each file."""
    sandbox = Sandbox(2, ChildBounds(cpu_s_per_file=1, wall_s=30))
    yield sandbox
    sandbox.close()


def written(folder: Path, *contents: bytes) -> list[UploadedFile]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [UploadedFile(position, folder / f"{position}") for position in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.path.write_bytes(content)
    return files


def busy_child_of(sandbox: Sandbox) -> int:
    """A child that has been computing for a while, so that it is at the long file."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = Path(f"/proc/{sandbox.server_pid}/task/{sandbox.server_pid}/children").read_text().split()
        for child in map(int, children):
            ticks = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11])
            if ticks > 20:
                return child
        time.sleep(0.01)
    raise AssertionError("no child became busy")


def test_a_file_that_takes_too_long_is_left_out_and_the_others_are_read(sandbox: Sandbox, tmp_path: Path) -> None:
    files = written(tmp_path, *phantom_slices(3), wide(LONG), *phantom_slices(2))

    found = scan_files(Reading.begin(sandbox, NO_LIMITS), files, tmp_path)

    assert [one.left_out.code if one.left_out else len(one.slices) for one in found] == [
        1, 1, 1, "file-out-of-time", 1, 1,
    ]  # fmt: skip
    assert found[3].left_out is not None
    assert found[3].left_out.detail.startswith("The file at position 3 needs more time")


def test_a_study_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    sandbox = Sandbox(2, ChildBounds(cpu_s_per_file=60, wall_s=0.5))
    list(sandbox.run("scan", b"{}", ChildBounds()))  # waits for the fork server
    began = time.monotonic()
    with pytest.raises(InputError) as refusal:
        read_upload(written(tmp_path / "in", wide(LONG)), tmp_path, sandbox, Stated(), NO_LIMITS)
    sandbox.close()

    assert refusal.value.code == "reading-out-of-time"
    assert time.monotonic() - began < 5


def test_a_volume_that_needs_too_much_memory_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    small = Sandbox(1, ChildBounds(memory_bytes=2**20))
    volume = gzip.compress(nifti((400, 400, 20)) + np.full(400 * 400 * 20, -1000, "<i2").tobytes())
    files = written(tmp_path / "in", volume)
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()

    with pytest.raises(InputError) as refusal:
        read_upload(files, tmp_path / "small", small, Stated(), NO_LIMITS)
    small.close()

    assert refusal.value.code in {"file-out-of-memory", "unreadable-upload"}
    assert read_upload(files, tmp_path / "large", sandbox, Stated(), NO_LIMITS).stack.slice_count == 20


def test_a_child_that_dies_costs_the_file_that_it_was_at(tmp_path: Path) -> None:
    sandbox = Sandbox(1, ChildBounds(cpu_s_per_file=20))
    files = written(tmp_path, *phantom_slices(2), wide(6_000_000), *phantom_slices(2))
    sandbox.start()
    killer = threading.Thread(target=lambda: os.kill(busy_child_of(sandbox), signal.SIGSEGV))
    killer.start()
    found = scan_files(Reading.begin(sandbox, NO_LIMITS), files, tmp_path)
    killer.join()
    sandbox.close()

    assert [one.left_out.code if one.left_out else len(one.slices) for one in found] == [1, 1, "file-crashed", 1, 1]


def test_a_fork_server_that_died_is_started_again(tmp_path: Path) -> None:
    sandbox = Sandbox(1)
    files = written(tmp_path, ct())
    sandbox.start()
    first = sandbox.server_pid
    assert first is not None
    assert len(scan_files(Reading.begin(sandbox, NO_LIMITS), files, tmp_path)) == 1
    os.kill(first, signal.SIGKILL)
    while sandbox.alive:
        time.sleep(0.01)
    assert len(scan_files(Reading.begin(sandbox, NO_LIMITS), files, tmp_path)) == 1
    assert sandbox.server_pid not in {None, first}
    sandbox.close()
    assert not sandbox.alive


def test_children_find_no_secrets_and_leave_nothing_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    sandbox = Sandbox(1)
    sandbox.start()
    pid = sandbox.server_pid
    scan_files(Reading.begin(sandbox, NO_LIMITS), written(tmp_path, ct()), tmp_path)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    sandbox.close()

    assert b"hf_secret" not in environment
    assert not Path(f"/proc/{pid}").exists()


def test_an_unforeseen_error_in_a_child_is_told_without_its_text(sandbox: Sandbox) -> None:
    said = list(sandbox.run("scan", b'{"SECRET^NAME": 1}'))

    assert [type(one) for one in said] == [Failed, Ended]
    assert "SECRET" not in str(said)
    assert isinstance(said[1], Ended)
    assert said[1].ending == "crashed"


def test_a_decoded_series_lies_in_its_file_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(9, 20, 30), stacked(9)).write(tmp_path / "in")
    files = [UploadedFile(position, path) for position, path in enumerate(paths)]
    read = read_upload(files, tmp_path, sandbox, limits=NO_LIMITS)

    assert read.stack_path.stat().st_size == 9 * 20 * 30 * 2
    np.testing.assert_array_equal(np.fromfile(read.stack_path, "<i2").reshape(9, 20, 30), ramp(9, 20, 30))
