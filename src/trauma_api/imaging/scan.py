"""The header pass: one share of an upload's files, from bytes to records of slices. Runs in a bounded child process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trauma_api.imaging.entries import Opened, Opener, Unit, units_of
from trauma_api.imaging.headers import WANTED, read_headers
from trauma_api.imaging.inflate import RAW_DEFLATE, BrokenArchiveError, SharedTally, unpacking
from trauma_api.imaging.prescan import DEFLATED, Outline, prescan
from trauma_api.imaging.quiet import quiet_libraries
from trauma_api.imaging.slices import LeftOut, ScannedEntry
from trauma_api.imaging.study import ReadLimits, UploadedFile
from trauma_api.imaging.unusable import MalformedDicomError, UnusableFileError

_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Share:
    """Which part of the work is one child's: every ``of``-th file, from ``number`` (from 0) on."""

    number: int
    of: int


@dataclass(frozen=True)
class Begun:
    """The file that is looked at next: position in the upload, and number in its archive."""

    position: int
    number: int | None


def scan(
    files: Sequence[UploadedFile],
    scratch: Path,
    share: Share,
    limits: ReadLimits,
    skip: frozenset[tuple[int, int | None]] = frozenset(),
) -> Iterator[Begun | ScannedEntry]:
    """Unpack, identify and hash one share of the files, and read the headers of what is DICOM.

    Yields Begun before a file is touched, and a ScannedEntry after. Files named in ``skip``, as position and number,
    are not touched. Several shares may run at once on one ``scratch``, a private folder, where unpacked files stay.

    A file that cannot be used is left out with a code. Raises TooManyFilesError, ExpandedTooLargeError,
    EncryptedArchiveError, NestedArchiveError and BrokenArchiveError, which refuse all of the upload.
    """
    quiet_libraries()
    units, declared_bytes = units_of(files, limits)
    opener = Opener(scratch, limits, SharedTally(scratch, limits.max_expanded_bytes - declared_bytes))
    for unit in units[share.number :: share.of]:
        if (unit.file.position, unit.number) not in skip:
            yield Begun(unit.file.position, unit.number)
            yield _scan_unit(unit, opener, limits)


def _scan_unit(unit: Unit, opener: Opener, limits: ReadLimits) -> ScannedEntry:
    opened = opener.open(unit)
    entry = opened.entry
    if not opened.regular:
        return ScannedEntry(entry, left_out=_left_out(opened, "special-file", "is a link or a device, not a file"))
    if entry.kind not in {"dicom", "maybe-dicom"}:
        return ScannedEntry(entry)
    try:
        opened, outline = _outline(opened, opener, limits)
        return ScannedEntry(opened.entry, read_headers(opened.entry, outline))
    except MalformedDicomError as damage:
        if entry.kind == "maybe-dicom":
            return ScannedEntry(replace(entry, kind="unknown"))
        return ScannedEntry(entry, left_out=_left_out(opened, damage.code, damage.because))
    except UnusableFileError as refusal:
        return ScannedEntry(entry, left_out=_left_out(opened, refusal.code, refusal.because))


def _outline(opened: Opened, opener: Opener, limits: ReadLimits) -> tuple[Opened, Outline]:
    """The outline of a file; a deflated one (DICOM PS3.5 section A.5) is inflated first."""
    outline = _prescan(opened, limits)
    if outline.meta_syntax != DEFLATED:
        return opened, outline
    try:
        with unpacking():
            inside = opener.inflate(opened, outline.data_start, RAW_DEFLATE)
    except BrokenArchiveError:
        raise MalformedDicomError from None
    inside = replace(inside, entry=replace(inside.entry, transfer_syntax_uid=_EXPLICIT_LITTLE))
    return inside, _prescan(inside, limits, bare=True)


def _prescan(opened: Opened, limits: ReadLimits, *, bare: bool = False) -> Outline:
    stored = opened.stored
    with opened.entry.path.open("rb", buffering=0) as stream:
        return prescan(stream.fileno(), stored.head, stored.size, WANTED.tags, limits, bare=bare)


def _left_out(opened: Opened, code: str, because: str) -> LeftOut:
    where = opened.entry.where.capitalize()
    return LeftOut(code, f"{where} {because}. Export it again, or send the study without it.")
