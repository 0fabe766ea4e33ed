"""Private folders for uploads: made for one request, filled while the disk has room, gone after it."""

import errno
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from trauma_api.errors import InsufficientStorageError

DISK_CHECK_BYTES = 64 * 2**20
"""Free space is looked at again after so many bytes: others write to the same disk meanwhile."""

_NOT_OPEN = -1


class Spool:
    """Writes numbered files, 0600, into one private folder. Blocks: for worker threads, one at a time."""

    def __init__(self, folder: Path, *, reserve_bytes: int, stated_bytes: int | None) -> None:
        """``stated_bytes``: how much the client says it sends; None where it does not say."""
        self.folder = folder
        self.paths: list[Path] = []
        self._reserve_bytes = reserve_bytes
        self._stated_bytes = stated_bytes or 0
        self._written_bytes = 0
        self._next_check_bytes = DISK_CHECK_BYTES
        self._descriptor = _NOT_OPEN

    def open(self) -> None:
        """Make the folder. Raises InsufficientStorageError."""
        self._check_disk(self.folder.parent)
        with full_disk_translated():
            self.folder.mkdir(mode=0o700)

    def begin_file(self) -> None:
        """Start the next file. Raises InsufficientStorageError."""
        path = self.folder / str(len(self.paths))
        with full_disk_translated():
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.paths.append(path)

    def write(self, data: memoryview) -> None:
        """Append to the file that was begun. Raises InsufficientStorageError."""
        self._written_bytes += len(data)
        if self._written_bytes >= self._next_check_bytes:
            self._next_check_bytes = self._written_bytes + DISK_CHECK_BYTES
            self._check_disk(self.folder)
        with full_disk_translated():
            while data:  # a nearly full disk takes a part, and fails on the rest
                data = data[os.write(self._descriptor, data) :]

    def end_file(self) -> None:
        """Finish the file that was begun. Raises InsufficientStorageError, as network disks tell only now."""
        if self._descriptor != _NOT_OPEN:
            descriptor, self._descriptor = self._descriptor, _NOT_OPEN
            with full_disk_translated():
                os.close(descriptor)

    def remove(self) -> None:
        """Remove the folder and all that was put there, by whomever."""
        try:
            self.end_file()
        except InsufficientStorageError:
            pass  # what could not be written is being removed
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_disk(self, folder: Path) -> None:
        """There must be room for the rest of the upload, for a volume as large as all of it, and for the reserve."""
        total = max(self._stated_bytes, self._written_bytes)
        if free_bytes(folder) < self._reserve_bytes + 2 * total - self._written_bytes:
            raise InsufficientStorageError


@asynccontextmanager
async def open_spool(root: Path, *, reserve_bytes: int, stated_bytes: int | None) -> AsyncIterator[Spool]:
    """A spool in a new private folder below ``root``, removed with all that was put there.

    Raises InsufficientStorageError unless the disk keeps ``reserve_bytes`` free with the upload and the volume in it
    on it.
    """
    spool = Spool(root / uuid.uuid4().hex, reserve_bytes=reserve_bytes, stated_bytes=stated_bytes)
    try:
        await anyio.to_thread.run_sync(spool.open)
        yield spool
    finally:
        # Also when the client left and the request is being cancelled.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(spool.remove)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of ``folder``. Blocks."""
    return shutil.disk_usage(folder).free


@contextmanager
def full_disk_translated() -> Iterator[None]:
    """Raise InsufficientStorageError for what writing to a full disk, or beyond a quota, raises."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise InsufficientStorageError from error
