"""From uploaded files to the single files in them: what each is by its content, with archives taken apart."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trauma_api.errors import InputError
from trauma_api.imaging.archives import Member, TooManyFilesError, members_of, unpack
from trauma_api.imaging.inflate import (
    GZIP,
    ExpandedTooLargeError,
    Hasher,
    SharedTally,
    Stored,
    inflate_file,
    inflated,
    unpacking,
)
from trauma_api.imaging.slices import Entry, EntryKind
from trauma_api.imaging.study import ReadLimits, UploadedFile

_HEAD_BYTES = 540
_GZIP_MARK = b"\x1f\x8b"
_INFLATED_KINDS = frozenset({"nifti", "dicom", "maybe-dicom"})


class NestedArchiveError(InputError):
    """A ZIP archive holds another one."""

    code = "nested-archive"
    title = "Archive inside an archive"
    public_message = "The ZIP archive holds another ZIP archive. Pack the images into one archive."


@dataclass(frozen=True)
class Unit:
    """One file to be looked at: as it was sent, or in an archive that was sent."""

    file: UploadedFile
    member: Member | None = None

    @property
    def number(self) -> int | None:
        """Of the entry in its archive, folders counted; None outside archives."""
        return self.member.number if self.member else None


@dataclass(frozen=True)
class Opened:
    """A unit whose bytes lie decompressed at ``entry.path``."""

    entry: Entry
    stored: Stored
    regular: bool = True
    """False for an archive's symbolic link or device: kept as plain bytes and not to be read."""


def units_of(files: Sequence[UploadedFile], limits: ReadLimits) -> tuple[list[Unit], int]:
    """All single files of an upload in the order sent, and how many bytes its archives declare to inflate to.

    Reads the first bytes of each file and the directories of archives, and inflates nothing. Raises TooManyFilesError,
    ExpandedTooLargeError, and as `members_of`.
    """
    if len(files) > limits.max_files:
        raise TooManyFilesError
    units: list[Unit] = []
    for file in files:
        if _kind_of_file(file.path) == "zip":
            units.extend(Unit(file, member) for member in members_of(file.path, limits))
        else:
            units.append(Unit(file))
        if len(units) > limits.max_files:
            raise TooManyFilesError
    declared_bytes = sum(unit.member.size for unit in units if unit.member)
    if declared_bytes > limits.max_expanded_bytes:
        raise ExpandedTooLargeError
    return units, declared_bytes


class Opener:
    """Unpacks, identifies and hashes units, each once."""

    def __init__(self, scratch: Path, limits: ReadLimits, tally: SharedTally) -> None:
        self._scratch, self._limits, self._tally = scratch, limits, tally
        self._hasher = Hasher()

    def open(self, unit: Unit) -> Opened:
        """Bring the bytes of a unit to where they can be read.

        Archive entries are written to the scratch folder under numbers, never under their names. A gzip file is
        inflated when a NIfTI image or a DICOM file is in it. Raises BrokenArchiveError, NestedArchiveError,
        EncryptedArchiveError and ExpandedTooLargeError. The head of ``stored`` is valid until the next call.
        """
        if unit.member is None:
            path, stored = unit.file.path, self._hasher.digest(unit.file.path)
        else:
            path = self.scratch_path(unit)
            stored = unpack(unit.file.path, unit.member, path)
        kind = kind_of(stored.head)
        if unit.member and kind == "zip":
            raise NestedArchiveError
        if unit.member and not unit.member.regular:
            return Opened(_entry(unit, path, "unknown", stored), stored, regular=False)
        if kind == "unknown" and stored.head[:2] == _GZIP_MARK:
            return self._open_gzip(unit, path, stored)
        return Opened(_entry(unit, path, kind, stored), stored)

    def inflate(self, opened: Opened, start: int, wbits: int) -> Opened:
        """Inflate what follows byte ``start`` into a file of its own. Raises as `inflate.inflate_file`."""
        entry = opened.entry
        number = "" if entry.number is None else f"-{entry.number:06d}"
        target = self._scratch / f"{entry.position:05d}{number}.inflated"
        with entry.path.open("rb") as stream:
            stream.seek(start)
            stored = inflate_file(stream, wbits, target, self._limits, self._tally)
        return Opened(replace(entry, path=target, digest=stored.digest), stored)

    def scratch_path(self, unit: Unit) -> Path:
        """Where the bytes of an archive's entry are written."""
        return self._scratch / f"{unit.file.position:05d}-{unit.number:06d}"

    def _open_gzip(self, unit: Unit, path: Path, stored: Stored) -> Opened:
        kind = kind_of(_inflated_head(stored.head))
        opened = Opened(_entry(unit, path, "unknown", stored), stored)
        if kind not in _INFLATED_KINDS:
            return opened
        with unpacking():
            inside = self.inflate(opened, 0, GZIP)
        return replace(inside, entry=replace(inside.entry, kind=kind))


def kind_of(head: bytes | memoryview) -> EntryKind:
    """The magic numbers: DICOM PS3.10 section 7.1, the NIfTI-1 and NIfTI-2 headers, PKWARE APPNOTE, PNG, JFIF."""
    head = bytes(head[:_HEAD_BYTES])
    # A DICOM preamble may hold anything, the magic number of another format included.
    if head[128:132] == b"DICM":
        return "dicom"
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return "zip"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    sizeof_hdr = head[:4]
    if sizeof_hdr in {b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"} and head[344:348] == b"n+1\x00":
        return "nifti"
    if sizeof_hdr in {b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"} and head[4:8] == b"n+2\x00":
        return "nifti"
    # Without a preamble a dataset starts with a tag of group 0002 or 0008, in either byte order.
    return "maybe-dicom" if head[:2] in {b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"} else "unknown"


def _kind_of_file(path: Path) -> EntryKind:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # half the time of a file object, for thousands of files
    try:
        return kind_of(os.read(descriptor, _HEAD_BYTES))
    finally:
        os.close(descriptor)


def _entry(unit: Unit, path: Path, kind: EntryKind, stored: Stored) -> Entry:
    return Entry(unit.file.position, unit.number, path, kind, stored.digest)


def _inflated_head(packed: memoryview) -> bytes:
    try:
        return next(inflated([bytes(packed)], GZIP), b"")
    except (zlib.error, EOFError):
        return b""
