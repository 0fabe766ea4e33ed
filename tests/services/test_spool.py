"""The spool: private, in the order written, empty again afterwards, and never the last bytes of a disk."""

import os
import stat
from http import HTTPStatus
from pathlib import Path

import anyio
import pytest

from trauma_api.errors import InsufficientStorageError
from trauma_api.services.spool import DISK_CHECK_BYTES, Spool, free_bytes, full_disk_translated, open_spool

GIB = 2**30


async def write(spool: Spool, *contents: bytes) -> None:
    """Write files on a worker thread, as requests do."""

    def work() -> None:
        for content in contents:
            spool.begin_file()
            spool.write(memoryview(content))
            spool.end_file()

    await anyio.to_thread.run_sync(work)


def listed(folder: Path) -> list[Path]:
    """What lies in a folder."""
    return list(folder.iterdir())


class TestFiles:
    async def test_they_are_numbered_private_and_gone_afterwards(self, tmp_path: Path) -> None:
        async with open_spool(tmp_path, reserve_bytes=0, stated_bytes=None) as spool:
            await write(spool, b"first", b"", b"third")
            assert [path.read_bytes() for path in spool.paths] == [b"first", b"", b"third"]
            assert [path.name for path in spool.paths] == ["0", "1", "2"]
            assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in spool.paths} == {0o600}
            (spool.folder / "unpacked").mkdir()
            (spool.folder / "unpacked" / "entry").write_bytes(b"by a reader")
        assert listed(tmp_path) == []

    async def test_a_failure_while_a_file_is_open_leaves_nothing(self, tmp_path: Path) -> None:
        open_before = len(listed(Path("/proc/self/fd")))

        async def fail() -> None:
            async with open_spool(tmp_path, reserve_bytes=0, stated_bytes=None) as spool:
                await anyio.to_thread.run_sync(spool.begin_file)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert listed(tmp_path) == []
        assert len(listed(Path("/proc/self/fd"))) == open_before

    async def test_a_cancelled_request_leaves_nothing(self, tmp_path: Path) -> None:
        with anyio.move_on_after(0.05) as scope:
            async with open_spool(tmp_path, reserve_bytes=0, stated_bytes=None) as spool:
                await write(spool, b"part of a study")
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert listed(tmp_path) == []


class TestDisk:
    async def test_less_free_than_the_reserve_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(InsufficientStorageError):
            async with open_spool(tmp_path, reserve_bytes=2**60, stated_bytes=None):
                pytest.fail("it was opened")
        assert listed(tmp_path) == []

    def test_the_stated_length_counts_twice_for_the_volume_that_is_made_of_it(self, tmp_path: Path) -> None:
        free = free_bytes(tmp_path)
        Spool(tmp_path / "fits", reserve_bytes=0, stated_bytes=free // 2 - free // 10).open()
        with pytest.raises(InsufficientStorageError):
            Spool(tmp_path / "does-not", reserve_bytes=0, stated_bytes=free // 2 + free // 10).open()
        assert listed(tmp_path) == [tmp_path / "fits"]

    def test_a_disk_that_others_fill_meanwhile_is_noticed(self, tmp_path: Path) -> None:
        free = free_bytes(tmp_path)
        if free < 4 * GIB:
            pytest.skip("needs 4 GiB of free disk")
        spool = Spool(tmp_path / "spool", reserve_bytes=free - GIB, stated_bytes=None)
        spool.open()
        spool.begin_file()
        others = os.open(tmp_path / "others", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            spool.write(memoryview(b"still enough"))
            os.posix_fallocate(others, 0, 2 * GIB)
            with pytest.raises(InsufficientStorageError):
                spool.write(memoryview(bytes(DISK_CHECK_BYTES)))
        finally:
            os.close(others)
            (tmp_path / "others").unlink()
            spool.remove()
        assert not spool.folder.exists()

    def test_a_write_to_a_full_disk_is_507(self) -> None:
        with (
            Path("/dev/full").open("wb", buffering=0) as full,
            pytest.raises(InsufficientStorageError) as refused,
            full_disk_translated(),
        ):
            full.write(b"x")
        assert refused.value.status == HTTPStatus.INSUFFICIENT_STORAGE
        assert refused.value.retryable
        assert refused.value.retry_after_s

    def test_other_failures_of_the_disk_stay_what_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), full_disk_translated():
            (tmp_path / "none").read_bytes()
