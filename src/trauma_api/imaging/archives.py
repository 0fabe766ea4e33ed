"""ZIP archives that are not trusted: everything is checked in the central directory before anything is inflated.

Read here rather than by ``zipfile``, which builds an object for each of however many entries a directory of gigabytes
claims, before it can be asked for their number. Structures: PKWARE APPNOTE 6.3.10, section 4.3.
"""

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from trauma_api.errors import InputError
from trauma_api.imaging.inflate import (
    RAW_DEFLATE,
    BrokenArchiveError,
    ExpandedTooLargeError,
    Stored,
    allowed_bytes,
    inflated,
    store,
    unpacking,
)
from trauma_api.imaging.study import ReadLimits

_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64_LOCATOR_MARK = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MARK = b"PK\x06\x06"
_RECORD = struct.Struct("<4s6H3L5H2L")
_RECORD_MARK = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_MARK = b"PK\x03\x04"
_ZIP64_EXTRA = 0x0001
_MAX_COMMENT_BYTES = 0xFFFF
_IN_ZIP64_16, _IN_ZIP64_32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_METHOD_STORED, _METHOD_DEFLATED = 0, 8
_PACKED_BYTES = 2**16
_RECORDS_PER_FILE = 4
"""Folders and the companions that macOS adds are records too."""
_RECORD_BYTES = 1024
"""More than any real record has, name and extra fields included, on average."""


class EncryptedArchiveError(InputError):
    """A ZIP entry is encrypted."""

    code = "encrypted-archive"
    title = "Archive is encrypted"
    public_message = "The ZIP archive is encrypted. Send it without a password."


class TooManyFilesError(InputError):
    """The upload holds more files than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too-many-files"
    title = "Too many files"
    public_message = "The upload holds too many files. Send the one CT series that is needed."


@dataclass(frozen=True)
class Member:
    """One file of a ZIP archive, as its central directory declares it."""

    number: int
    """In the central directory, from 0, folders counted."""
    method: int
    crc32: int
    packed_bytes: int
    size: int
    offset: int
    """Of its local header."""
    regular: bool
    """False for a symbolic link, a device or a pipe."""


def members_of(path: Path, limits: ReadLimits) -> tuple[Member, ...]:
    """The files of an archive without its folders, ``__MACOSX`` companions and DICOMDIR; nothing is inflated.

    Raises TooManyFilesError, EncryptedArchiveError, ExpandedTooLargeError where the declared sizes are over a limit,
    and BrokenArchiveError, which overlapping entries are too: the trick of archives that expand without bound.
    """
    with path.open("rb") as stream:
        size, start, count = _directory_place(stream)
        most = limits.max_files * _RECORDS_PER_FILE
        if count > most or size > most * _RECORD_BYTES:
            raise TooManyFilesError
        directory = os.pread(stream.fileno(), size, start)
    members = []
    for number, (record, name, extra) in enumerate(_records(directory)):
        if number >= most:
            raise TooManyFilesError
        if _is_wanted(name, record[15]):
            members.append(_member(number, record, extra))
    if len(members) > limits.max_files:
        raise TooManyFilesError
    _check_sizes(members, limits)
    _check_overlaps(members, start)
    return tuple(members)


def unpack(archive: Path, member: Member, target: Path) -> Stored:
    """Write one member to ``target``, which gets as many bytes as the directory declares.

    Raises BrokenArchiveError where its content differs from that in size or checksum, and EncryptedArchiveError.
    """
    left = member.size

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise BrokenArchiveError

    with unpacking(), archive.open("rb", buffering=0) as stream:
        packed = _packed(stream, member)
        chunks = inflated(packed, RAW_DEFLATE) if member.method == _METHOD_DEFLATED else packed
        stored = store(chunks, target, spend)
    if left or stored.crc32 != member.crc32:
        raise BrokenArchiveError
    return stored


def _directory_place(stream: BinaryIO) -> tuple[int, int, int]:
    """Size and start of the central directory, and the number of records that it claims."""
    file_bytes = os.fstat(stream.fileno()).st_size
    tail_start = max(0, file_bytes - _END.size - _MAX_COMMENT_BYTES)
    tail = os.pread(stream.fileno(), file_bytes - tail_start, tail_start)
    found = tail.rfind(_END_MARK)
    if found < 0 or len(tail) - found < _END.size:
        raise BrokenArchiveError
    end = tail_start + found
    _, disk, first_disk, _, count, size, start, _ = _END.unpack_from(tail, found)
    if _IN_ZIP64_16 in {disk, first_disk, count} or _IN_ZIP64_32 in {size, start}:
        locator = os.pread(stream.fileno(), _END64_LOCATOR.size, max(0, end - _END64_LOCATOR.size))
        if locator.startswith(_END64_LOCATOR_MARK):
            end = _END64_LOCATOR.unpack(locator)[2]
            record = _pread_exactly(stream, _END64, end)
            mark, _, _, _, disk, first_disk, _, count, size, start = record
            if mark != _END64_MARK:
                raise BrokenArchiveError
    if disk or first_disk or start + size > end:
        raise BrokenArchiveError
    return size, start, count


def _pread_exactly(stream: BinaryIO, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
    if not 0 <= offset <= os.fstat(stream.fileno()).st_size - layout.size:
        raise BrokenArchiveError
    return layout.unpack(os.pread(stream.fileno(), layout.size, offset))


def _records(directory: bytes) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
    """The fixed fields, name and extra fields of each record."""
    at = 0
    while at < len(directory):
        if len(directory) - at < _RECORD.size:
            raise BrokenArchiveError
        record = _RECORD.unpack_from(directory, at)
        name_end = at + _RECORD.size + record[10]
        extra_end = name_end + record[11]
        if record[0] != _RECORD_MARK or extra_end + record[12] > len(directory):
            raise BrokenArchiveError
        yield record, directory[at + _RECORD.size : name_end], directory[name_end:extra_end]
        at = extra_end + record[12]


def _is_wanted(name: bytes, attributes: int) -> bool:
    parts = name.replace(b"\\", b"/").split(b"/")
    folder = not parts[-1] or stat.S_ISDIR(attributes >> 16)
    return not folder and b"__MACOSX" not in parts and parts[-1].upper() != b"DICOMDIR"


def _member(number: int, record: Sequence[Any], extra: bytes) -> Member:
    if record[3] & _ENCRYPTED_FLAGS:
        raise EncryptedArchiveError
    size, packed_bytes, offset = _zip64((record[9], record[8], record[16]), extra)
    if record[4] not in {_METHOD_STORED, _METHOD_DEFLATED}:
        raise BrokenArchiveError
    mode = stat.S_IFMT(record[15] >> 16)
    return Member(number, record[4], record[7], packed_bytes, size, offset, regular=mode in {0, stat.S_IFREG})


def _zip64(fields: tuple[int, int, int], extra: bytes) -> tuple[int, ...]:
    """Size, packed size and offset; those that do not fit 32 bits are in an extra field (APPNOTE section 4.5.3)."""
    if _IN_ZIP64_32 not in fields:
        return fields
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _ZIP64_EXTRA:
            wide = struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])
            found = tuple(next(wide, (None,))[0] if field == _IN_ZIP64_32 else field for field in fields)
            if None in found:
                raise BrokenArchiveError
            return found
        at += 4 + length
    raise BrokenArchiveError


def _check_sizes(members: Sequence[Member], limits: ReadLimits) -> None:
    total, packed = sum(member.size for member in members), sum(member.packed_bytes for member in members)
    if (
        any(member.size > allowed_bytes(member.packed_bytes, limits) for member in members)
        or total > limits.max_expanded_bytes
        or total > max(limits.ratio_free_bytes, limits.max_total_ratio * packed)
    ):
        raise ExpandedTooLargeError


def _check_overlaps(members: Sequence[Member], directory_start: int) -> None:
    ordered = sorted(members, key=lambda member: member.offset)
    limits = [member.offset for member in ordered[1:]] + [directory_start]
    for member, limit in zip(ordered, limits, strict=False):
        if member.offset + _LOCAL.size + member.packed_bytes > limit:
            raise BrokenArchiveError


def _packed(stream: BinaryIO, member: Member) -> Iterator[bytes]:
    local = _pread_exactly(stream, _LOCAL, member.offset)
    if local[2] & _ENCRYPTED_FLAGS:
        raise EncryptedArchiveError
    if local[0] != _LOCAL_MARK or local[3] != member.method:
        raise BrokenArchiveError
    at = member.offset + _LOCAL.size + local[9] + local[10]
    end = at + member.packed_bytes
    while at < end:
        piece = os.pread(stream.fileno(), min(_PACKED_BYTES, end - at), at)
        if not piece:
            raise EOFError
        yield piece
        at += len(piece)
