"""From uploaded files to the single files in them: what each is by its content, with archives taken apart."""

import errno
import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Literal

from trauma_api.errors import InputError
from trauma_api.imaging.study import ReadLimits, UploadedFile

EntryKind = Literal["dicom", "maybe-dicom", "nifti", "picture", "zip", "unknown"]

_CHUNK_BYTES = 2**20
_HEAD_BYTES = 540
_ENCRYPTED_FLAG = 0x1


class BrokenArchiveError(InputError):
    """A ZIP or gzip file is damaged, or packed by a method that is not supported."""

    code = "broken-archive"
    title = "Archive cannot be unpacked"
    public_message = "A compressed file is damaged or uses an unsupported method. Pack it again as a plain ZIP."


class EncryptedArchiveError(InputError):
    """A ZIP entry is encrypted."""

    code = "encrypted-archive"
    title = "Archive is encrypted"
    public_message = "The ZIP archive is encrypted. Send it without a password."


class NestedArchiveError(InputError):
    """A ZIP archive holds another one."""

    code = "nested-archive"
    title = "Archive inside an archive"
    public_message = "The ZIP archive holds another ZIP archive. Pack the images into one archive."


class TooManyFilesError(InputError):
    """The upload holds more files than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too-many-files"
    title = "Too many files"
    public_message = "The upload holds too many files. Send the one CT series that is needed."


class ExpandedTooLargeError(InputError):
    """Compressed content inflates to more than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "expanded-too-large"
    title = "Upload expands to too much"
    public_message = "The upload unpacks to more than the limit. Send the one CT series that is needed."


@dataclass(frozen=True)
class Entry:
    """One file of an upload. ``where`` names it in errors without its name."""

    where: str
    path: Path
    kind: EntryKind
    sha256: str


class _Budget:
    """Counts inflated bytes against the limit for all of an upload."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ExpandedTooLargeError


def collect_entries(files: Sequence[UploadedFile], scratch: Path, limits: ReadLimits) -> tuple[Entry, ...]:
    """Identify each file by its content and unpack archives into ``scratch`` under numbers, in the order sent.

    Folders, ``__MACOSX`` and DICOMDIR files of an archive are skipped; entry names are never used as paths. Sizes are
    counted while inflating. A gzip file is unpacked when a NIfTI image is in it. Raises the errors of this module.
    """
    if len(files) > limits.max_files:
        raise TooManyFilesError
    budget = _Budget(limits.max_expanded_bytes)
    entries: list[Entry] = []
    for file in files:
        where = f"the file at position {file.position}"
        if _kind_of_file(file.path) == "zip":
            entries.extend(_unpack(file, where, scratch, limits, budget))
        else:
            entries.append(_entry(where, file.path, scratch / f"{file.position:05d}.inflated", budget))
        if len(entries) > limits.max_files:
            raise TooManyFilesError
    return tuple(entries)


def _unpack(file: UploadedFile, where: str, scratch: Path, limits: ReadLimits, budget: _Budget) -> list[Entry]:
    entries = []
    with _unpacking(), zipfile.ZipFile(file.path) as archive:
        wanted = [info for info in archive.infolist() if _is_wanted(info)]
        if len(wanted) > limits.max_files:
            raise TooManyFilesError
        for number, info in enumerate(wanted):
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise EncryptedArchiveError
            target = scratch / f"{file.position:05d}-{number:05d}"
            with archive.open(info) as source:
                _copy_counted(source.read, target, budget, limits.max_entry_bytes)
            entry = _entry(f"entry {number} of {where}", target, target.with_suffix(".inflated"), budget)
            if entry.kind == "zip":
                raise NestedArchiveError
            entries.append(entry)
    return entries


@contextmanager
def _unpacking() -> Iterator[None]:
    """Translate what damaged archives raise; a full disk or a vanished spool file is not the client's fault."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError):
        raise BrokenArchiveError from None
    except OSError as failure:
        if failure.errno not in {None, errno.EINVAL}:
            raise
        raise BrokenArchiveError from None


def _is_wanted(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    return not info.is_dir() and "__MACOSX" not in parts and bool(parts) and parts[-1].upper() != "DICOMDIR"


def _entry(where: str, path: Path, inflated: Path, budget: _Budget) -> Entry:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not (head.startswith(b"\x1f\x8b") and _kind(_inflated_head(path)) == "nifti"):
        return Entry(where, path, _kind(head), _sha256(path))
    with _unpacking(), gzip.open(path, "rb") as source:
        _copy_counted(source.read, inflated, budget, budget.left)
    return Entry(where, inflated, "nifti", _sha256(inflated))


def _kind_of_file(path: Path) -> EntryKind:
    with path.open("rb") as stream:
        return _kind(stream.read(_HEAD_BYTES))


def _kind(head: bytes) -> EntryKind:
    """The magic numbers: DICOM PS3.10 section 7.1, the NIfTI-1 and NIfTI-2 headers, PKWARE APPNOTE, PNG, JFIF."""
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


def _inflated_head(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _copy_counted(read: Callable[[int], bytes], target: Path, budget: _Budget, max_bytes: int) -> None:
    copied = 0
    with target.open("xb") as out:
        while chunk := read(_CHUNK_BYTES):
            copied += len(chunk)
            if copied > max_bytes:
                raise ExpandedTooLargeError
            budget.spend(len(chunk))
            out.write(chunk)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
