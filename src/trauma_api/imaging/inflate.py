"""Copies and inflates within limits, hashing on the way: what is compressed may never fill a disk or the memory."""

import fcntl
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from trauma_api.errors import InputError
from trauma_api.imaging.study import ReadLimits

RAW_DEFLATE = -zlib.MAX_WBITS
GZIP = 16 + zlib.MAX_WBITS
CHUNK_BYTES = 2**20

_PACKED_BYTES = 2**16
_TALLY_NAME = "inflated-bytes"
_TALLY_BYTES = 8


class BrokenArchiveError(InputError):
    """A ZIP or gzip file is damaged, packed by a method that is not supported, or its entries overlap."""

    code = "broken-archive"
    title = "Archive cannot be unpacked"
    public_message = "A compressed file is damaged or uses an unsupported method. Pack it again as a plain ZIP."


class ExpandedTooLargeError(InputError):
    """Compressed content inflates to more than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "expanded-too-large"
    title = "Upload expands to too much"
    public_message = "The upload unpacks to more than the limit. Send the one CT series that is needed."


@dataclass(frozen=True)
class Stored:
    """What was copied: its size, digest and first bytes (1 MiB at most)."""

    size: int
    digest: str
    head: memoryview
    crc32: int = 0


class SharedTally:
    """Counts what all processes that work on one upload have inflated, in a file of their scratch folder.

    What a process that died had counted stays counted.
    """

    def __init__(self, scratch: Path, limit_bytes: int) -> None:
        self._path = scratch / _TALLY_NAME
        self._limit_bytes = limit_bytes

    def spend(self, count: int) -> None:
        """Raises ExpandedTooLargeError when ``count`` more bytes are over the limit."""
        tally = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(tally, fcntl.LOCK_EX)
            total = int.from_bytes(os.pread(tally, _TALLY_BYTES, 0), "little") + count
            os.pwrite(tally, total.to_bytes(_TALLY_BYTES, "little"), 0)
        finally:
            os.close(tally)
        if total > self._limit_bytes:
            raise ExpandedTooLargeError


class Hasher:
    """Reads files through one buffer that is used again for every file, as fresh memory costs more than the reading."""

    def __init__(self) -> None:
        self._head, self._rest = bytearray(CHUNK_BYTES), bytearray(CHUNK_BYTES)

    def digest(self, path: Path) -> Stored:
        """Size, digest and first bytes of a file. The first bytes are valid until the next call."""
        with path.open("rb", buffering=0) as stream:
            size = stream.readinto(self._head)
            head = memoryview(self._head)[:size]
            digest = blake3(head)
            rest = memoryview(self._rest)
            while size >= CHUNK_BYTES and (count := stream.readinto(rest)):
                digest.update(rest[:count])
                size += count
        return Stored(size, digest.hexdigest(), head)


def inflated(pieces: Iterable[bytes], wbits: int) -> Iterator[bytes]:
    """Inflate in chunks of at most 1 MiB; gzip files of several members too.

    Raises zlib.error for damaged and EOFError for truncated data.
    """
    engine = zlib.decompressobj(wbits)
    for packed in pieces:
        piece = packed
        while piece or not engine.eof:
            if engine.eof:
                if wbits != GZIP or not piece.startswith(b"\x1f"):
                    return
                engine = zlib.decompressobj(wbits)
            chunk = engine.decompress(piece, CHUNK_BYTES)
            piece = engine.unused_data if engine.eof else engine.unconsumed_tail
            if chunk:
                yield chunk
            elif not piece:
                break
    if not engine.eof:
        raise EOFError


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """The rest of a stream, in pieces."""
    while piece := stream.read(_PACKED_BYTES):
        yield piece


def store(chunks: Iterable[bytes], target: Path, spend: Callable[[int], None]) -> Stored:
    """Write chunks to a file, hashing them; ``spend`` is asked before each is written and raises to stop."""
    digest, size, crc32, head = blake3(), 0, 0, b""
    with target.open("wb", buffering=0) as out:
        for chunk in chunks:
            spend(len(chunk))
            head = head or chunk
            size += len(chunk)
            digest.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            _write_all(out.fileno(), chunk)
    return Stored(size, digest.hexdigest(), memoryview(head), crc32)


def inflate_file(stream: BinaryIO, wbits: int, target: Path, limits: ReadLimits, tally: SharedTally) -> Stored:
    """Inflate the rest of ``stream`` into ``target``.

    Raises ExpandedTooLargeError at the limits for one file and for all, else as `inflated`.
    """
    packed_bytes = os.fstat(stream.fileno()).st_size - stream.tell()
    left = allowed_bytes(packed_bytes, limits)

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise ExpandedTooLargeError
        tally.spend(count)

    return store(inflated(pieces(stream), wbits), target, spend)


def allowed_bytes(packed_bytes: int, limits: ReadLimits) -> int:
    """What one compressed file or entry may inflate to."""
    return min(limits.max_entry_bytes, max(limits.ratio_free_bytes, limits.max_entry_ratio * packed_bytes))


@contextmanager
def unpacking() -> Iterator[None]:
    """Translate what damaged data raise. A full disk is not the client's fault and stays what it is."""
    try:
        yield
    except (zlib.error, EOFError):
        raise BrokenArchiveError from None


def _write_all(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]
