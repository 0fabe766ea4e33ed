"""Whole jobs for the sandbox: work dealt out to its children, results checked and joined, their ends explained."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from trauma_api.errors import InputError, InsufficientStorageError
from trauma_api.imaging.anatomy import SliceStats
from trauma_api.imaging.nifti import MalformedNiftiError, NiftiStack
from trauma_api.imaging.pictures import MalformedPictureError, PictureFacts
from trauma_api.imaging.pixels import StackType, UndecodablePixelsError
from trauma_api.imaging.sandbox.client import Result, Sandbox, SandboxError
from trauma_api.imaging.sandbox.messages import Ended, Ending, Failed, Refused, SystemFailed
from trauma_api.imaging.sandbox.tasks import (
    DECODE_JOB,
    DECODED_SLICE,
    IMAGE_FILES_JOB,
    LOOK_JOB,
    NIFTI_STACK,
    PICTURE_FACTS,
    SCAN_JOB,
    SCANNED_ENTRY,
    DecodeJob,
    ImageFilesJob,
    LookJob,
    ScanJob,
)
from trauma_api.imaging.scan import Begun, Share
from trauma_api.imaging.slices import Entry, InPlane, LeftOut, ScannedEntry, SliceHeader
from trauma_api.imaging.study import ReadLimits, UploadedFile
from trauma_api.log import get_logger

T = TypeVar("T")

logger = get_logger()

_MOST_RESTARTS = 8
"""Files of one upload that may each bring down a child before the upload is refused."""
_WIDEST_GROWTH = 4
_FEW_SLICES = 8
"""So few slices are decoded by one child: a second one would cost more than it saves."""


class ReadingTimeoutError(InputError):
    """The study took longer to read than the limit."""

    code = "reading-out-of-time"
    title = "Reading took too long"
    public_message = "The upload took too long to read. Send the one CT series that is needed."


class UnreadableUploadError(InputError):
    """Too many files brought down the process that read them."""

    code = "unreadable-upload"
    title = "Upload cannot be read"
    public_message = "Several files of the upload could not be read within the limits. Export the study again."


class FileOutOfMemoryError(InputError):
    """One file needs more memory than a child may have."""

    code = "file-out-of-memory"
    title = "A file needs too much memory"
    public_message = "A file needs more memory to read than the limit. Export it again, or send the study without it."


class FileOutOfTimeError(InputError):
    """One file needs more time than a child may have."""

    code = "file-out-of-time"
    title = "A file needs too much time"
    public_message = "A file needs more time to read than the limit. Export it again, or send the study without it."


class FileCrashedError(InputError):
    """One file brought down its child."""

    code = "file-crashed"
    title = "A file cannot be read"
    public_message = "A file cannot be read. Export it again, or send the study without it."


class WideRangeStackError(Exception):
    """The slices hold values that int16 does not; decode them again as float32."""


_ENDINGS: dict[Ending, type[InputError]] = {
    "out-of-memory": FileOutOfMemoryError,
    "out-of-time": FileOutOfTimeError,
}


@dataclass(frozen=True)
class Reading:
    """One upload on its way through the sandbox."""

    sandbox: Sandbox
    limits: ReadLimits
    deadline: float
    """On the clock of time.monotonic."""

    @classmethod
    def begin(cls, sandbox: Sandbox, limits: ReadLimits) -> "Reading":
        """Starts the clock of the study's wall-clock limit."""
        return cls(sandbox, limits, time.monotonic() + sandbox.bounds.wall_s)

    def run(self, task: str, arguments: bytes, mapped_bytes: int = 0) -> Iterator[Result | Ended]:
        """Run a task within what is left of the study's time. Raises what the child was refused for.

        ``mapped_bytes`` is the size of files that the task maps, which counts as address space and is no memory.
        """
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise ReadingTimeoutError
        bounds = self.sandbox.bounds
        bounds = replace(bounds, wall_s=left_s, memory_bytes=bounds.memory_bytes + mapped_bytes)
        for message in self.sandbox.run(task, arguments, bounds):
            if isinstance(message, Refused):
                raise refusal(message.code, message.detail)
            if isinstance(message, SystemFailed):
                raise _system_failure(message)
            if isinstance(message, Failed):
                logger.error("sandbox.failed", task=task, kind=message.kind, place=message.place)
                continue
            if isinstance(message, Ended) and message.ending == "out-of-time" and time.monotonic() >= self.deadline:
                raise ReadingTimeoutError
            yield message


def scan_files(reading: Reading, files: Sequence[UploadedFile], scratch: Path) -> list[ScannedEntry]:
    """The header pass over an upload, in the order sent; a file that brings down its child is left out with a code.

    Raises the InputErrors of `scan.scan`, ReadingTimeoutError, UnreadableUploadError, InsufficientStorageError.
    """
    count = min(reading.sandbox.children, max(len(files), 2))
    job = ScanJob(tuple(files), scratch, Share(0, count), reading.limits, ())
    shares = [replace(job, share=Share(number, count)) for number in range(count)]
    found = _at_once([lambda share=share: _scan_share(reading, share) for share in shares])  # type: ignore[misc]
    return sorted((entry for share in found for entry in share), key=lambda one: _place(one.entry))


def _place(entry: Entry) -> tuple[int, int]:
    return entry.position, -1 if entry.number is None else entry.number


def _scan_share(reading: Reading, job: ScanJob) -> list[ScannedEntry]:
    found: list[ScannedEntry] = []
    for _ in range(_MOST_RESTARTS):
        done = tuple((one.entry.position, one.entry.number) for one in found)
        for message in reading.run("scan", SCAN_JOB.dump_json(replace(job, skip=done))):
            if isinstance(message, Result):
                found.append(SCANNED_ENTRY.validate_json(message.payload))
            elif message.ending == "done":
                return found
            elif message.at is None:
                raise UnreadableUploadError
            else:
                found.append(_not_survived(message.at, message.ending))
    raise UnreadableUploadError


def _not_survived(begun: Begun, ending: Ending) -> ScannedEntry:
    entry = Entry(begun.position, begun.number, Path(), "unknown", "")
    kind = _ENDINGS.get(ending, FileCrashedError)
    detail = kind.public_message.replace("A file", entry.where.capitalize(), 1)
    return ScannedEntry(entry, (), LeftOut(kind.code, detail))


def decode_slices(
    reading: Reading,
    slices: Sequence[SliceHeader],
    in_plane: InPlane,
    target: Path,
    dtype: StackType,
    look_at: frozenset[int],
    spacing_yx_mm: tuple[float, float],
) -> dict[int, SliceStats]:
    """Decode slices, in this order, into the file ``target``; what was seen in those to look at, by their number.

    Raises UndecodablePixelsError, NoDecoderError, WideRangeStackError, ReadingTimeoutError, InsufficientStorageError.
    """
    count = 1 if len(slices) <= _FEW_SLICES else reading.sandbox.children
    starts = [len(slices) * number // count for number in range(count + 1)]
    jobs = [
        DecodeJob(tuple(slices[start:stop]), tuple(range(start, stop)), in_plane, target, dtype, look_at, spacing_yx_mm)
        for start, stop in pairwise(starts)
    ]
    stats: dict[int, SliceStats] = {}
    for share in _at_once([lambda job=job: _decode_share(reading, job) for job in jobs]):  # type: ignore[misc]
        stats |= share
    return stats


def _decode_share(reading: Reading, job: DecodeJob) -> dict[int, SliceStats]:
    stats: dict[int, SliceStats] = {}
    left, at = list(job.numbers), job.numbers[0]
    for message in reading.run("decode", DECODE_JOB.dump_json(job)):
        if isinstance(message, Result):
            decoded = DECODED_SLICE.validate_json(message.payload)
            if decoded.too_wide:
                raise WideRangeStackError
            left.remove(decoded.number)
            if decoded.stats is not None:
                stats[decoded.number] = decoded.stats
        elif message.at is not None:
            at = message.at.position
    if left:
        where = job.slices[job.numbers.index(at)].entry.where
        raise UndecodablePixelsError(f"The pixel data of {where} are missing or damaged. Export the series again.")
    return stats


def look_at_slices(reading: Reading, job: LookJob) -> dict[int, SliceStats]:
    """What is seen in some slices of a file of voxels, by their number."""
    found = [
        DECODED_SLICE.validate_json(message.payload)
        for message in reading.run("look", LOOK_JOB.dump_json(job), job.target.stat().st_size)
        if isinstance(message, Result)
    ]
    return {decoded.number: decoded.stats for decoded in found if decoded.stats is not None}


def nifti_to_stack(reading: Reading, entries: Sequence[Entry], target: Path) -> NiftiStack:
    """Read NIfTI files into the file ``target``. Raises the InputErrors of `nifti.read_nifti`."""
    return _one_result(reading, "nifti", entries, target, NIFTI_STACK, MalformedNiftiError)


def pictures_to_stack(reading: Reading, entries: Sequence[Entry], target: Path) -> PictureFacts:
    """Read pictures into the file ``target``. Raises the InputErrors of `pictures.read_pictures`."""
    return _one_result(reading, "pictures", entries, target, PICTURE_FACTS, MalformedPictureError)


def _one_result(
    reading: Reading,
    task: str,
    entries: Sequence[Entry],
    target: Path,
    adapter: TypeAdapter[T],
    not_survived: type[InputError],
) -> T:
    job = IMAGE_FILES_JOB.dump_json(ImageFilesJob(tuple(entries), target, reading.limits))
    # The file of voxels is mapped, and no voxel takes more than four times the bytes that it came from.
    mapped_bytes = _WIDEST_GROWTH * max(entry.path.stat().st_size for entry in entries)
    result: T | None = None
    for message in reading.run(task, job, mapped_bytes):
        if isinstance(message, Result):
            result = adapter.validate_json(message.payload)
        elif result is None:
            raise _ENDINGS.get(message.ending, not_survived)
    if result is None:
        raise not_survived
    return result


def _at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Each call in a thread of its own, where it waits for its child."""
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda call: call(), calls))


def refusal(code: str, detail: str) -> InputError:
    """The refusal of a child, as the error that it was."""
    for kind in _kinds(InputError):
        if kind.code == code:
            return kind(detail)
    raise SandboxError("The reading process refused for a reason that is not known here.")


def _kinds(kind: type[InputError]) -> Iterator[type[InputError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _system_failure(failed: SystemFailed) -> Exception:
    if failed.errno in {errno.ENOSPC, errno.EDQUOT}:
        return InsufficientStorageError()
    return OSError(failed.errno, "reading an upload failed")
