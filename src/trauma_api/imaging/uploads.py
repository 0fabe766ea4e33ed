"""The way in: uploaded files to one image stack. No byte of them is parsed in this process; see `sandbox`."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trauma_api.errors import InputError
from trauma_api.imaging.dicom import read_dicom, unique_slices
from trauma_api.imaging.eligibility import assess, slices_to_look_at
from trauma_api.imaging.nifti import nifti_series_id
from trauma_api.imaging.pictures import picture_warnings
from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.sandbox.jobs import (
    Reading,
    look_at_slices,
    nifti_to_stack,
    pictures_to_stack,
    refusal,
    scan_files,
)
from trauma_api.imaging.sandbox.tasks import LookJob
from trauma_api.imaging.series import NoSuchSeriesError
from trauma_api.imaging.slices import Entry, ScannedEntry
from trauma_api.imaging.study import (
    Eligibility,
    ReadLimits,
    ReadStudy,
    SeriesSummary,
    Source,
    StudyWarning,
    UploadedFile,
)
from trauma_api.imaging.volume import CTVolume, ImageStack, PictureStack

__all__ = [
    "ReadLimits",
    "ReadStudy",
    "SeriesSummary",
    "Stated",
    "StudyWarning",
    "UploadedFile",
    "read_upload",
]

_MOST_NAMED = 10
"""Files that a warning names by position; the rest are counted."""


class UnrecognizedUploadError(InputError):
    """Nothing in the upload is an image of a known kind."""

    code = "unrecognized-upload"
    title = "No image recognised"
    public_message = "Nothing in the upload is a DICOM, NIfTI, PNG or JPEG image. Send the axial CT series."


class SpacingNotWantedError(InputError):
    """A spacing or window was stated for images that have their own."""

    code = "spacing-not-wanted"
    title = "Spacing or window is not wanted"
    public_message = "DICOM and NIfTI images hold their own spacing and HU. Send them without a spacing and a window."


class StatedValuesError(InputError):
    """A stated spacing or window cannot be true."""

    code = "stated-values-unusable"
    title = "Stated spacing or window cannot be used"
    public_message = "State a spacing of three positive numbers in mm, and a window whose first HU is below the second."


@dataclass(frozen=True)
class Stated:
    """What the sender said beside the files."""

    spacing_zyx_mm: tuple[float, float, float] | None = None
    """Of pictures only: between slices, rows and columns."""
    window_hu: tuple[float, float] | None = None
    """Of pictures only: HU of black and of white."""
    series: str | None = None
    """The series to take: a ``series_id`` of an earlier answer, or a SeriesInstanceUID."""


def read_upload(
    files: Sequence[UploadedFile],
    folder: Path,
    sandbox: Sandbox,
    stated: Stated = Stated(),
    limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
) -> ReadStudy:
    """Turn the files of one upload into one image stack, judging each by its content and not by its name.

    DICOM files (one CT series is chosen), ZIP archives of images, one NIfTI CT, or PNG and JPEG pictures. Of several
    kinds DICOM is taken before NIfTI and NIfTI before pictures. What is not used is left out with a warning. ``folder``
    is a private folder that the caller removes; the stack is a file in it, ``ReadStudy.stack_path``, which may be moved
    away. Blocks; call it in a thread.

    Raises InputError, one subclass per reason, whose text holds no patient data; InsufficientStorageError when the disk
    is full, and SandboxError.
    """
    _check_stated(stated)
    scratch = folder / "unpacked"
    scratch.mkdir(mode=0o700)
    reading = Reading.begin(sandbox, limits)
    scanned = scan_files(reading, files, scratch)
    try:
        read = _read(reading, scanned, folder / "stack.raw", stated)
    except InputError as refusal:
        raise _with_left_out(refusal, scanned) from None
    return ReadStudy(
        digest=_digest(scanned, read, stated),
        source=read.source,
        stack=read.stack,
        stack_path=folder / "stack.raw",
        series=read.series,
        warnings=(*read.warnings, *_left_out(scanned, read.source)),
        eligibility=read.eligibility,
    )


@dataclass(frozen=True)
class _Read:
    """What was made of one kind of files."""

    source: Source
    series_id: str
    stack: ImageStack
    series: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]
    eligibility: Eligibility


def _read(reading: Reading, scanned: Sequence[ScannedEntry], target: Path, stated: Stated) -> _Read:
    headers, copies = unique_slices(scanned)
    volumes = [one.entry for one in scanned if one.entry.kind == "nifti"]
    pictures = [one.entry for one in scanned if one.entry.kind == "picture"]
    if (stated.spacing_zyx_mm or stated.window_hu) and (headers or volumes):
        raise SpacingNotWantedError
    if any(header.modality == "CT" for header in headers) or (headers and not volumes and not pictures):
        found = read_dicom(reading, headers, target, stated.series)
        return _Read(
            "dicom", found.series_id, found.volume, found.series, (*copies, *found.warnings), found.eligibility
        )
    if volumes:
        return _read_nifti(reading, volumes, target, stated.series)
    if pictures:
        return _read_pictures(reading, pictures, target, stated)
    for one in scanned:
        if one.left_out is not None:
            raise refusal(one.left_out.code, one.left_out.detail)
    raise UnrecognizedUploadError


def _read_nifti(reading: Reading, volumes: Sequence[Entry], target: Path, pinned: str | None) -> _Read:
    if pinned is not None:
        volumes = [entry for entry in volumes if nifti_series_id(entry) == pinned]
        if not volumes:
            raise NoSuchSeriesError
    found = nifti_to_stack(reading, volumes, target)
    volume = CTVolume(
        np.memmap(target, found.dtype, "r", shape=found.shape_zyx), np.asarray(found.affine_lps, dtype=np.float64)
    )
    slice_mm, *spacing_yx_mm = volume.spacing_zyx_mm or (0.0, 0.0, 0.0)
    centres_mm = [index * slice_mm for index in range(volume.slice_count)]
    look_at = slices_to_look_at(centres_mm)
    job = LookJob(target, found.dtype, found.shape_zyx, look_at, (spacing_yx_mm[0], spacing_yx_mm[1]))
    stats = look_at_slices(reading, job)
    eligibility = assess(look_at, [stats[index] for index in look_at], centres_mm)
    selected = next(series for series in found.series if series.selected)
    return _Read("nifti", selected.series_id, volume, found.series, found.warnings, eligibility)


def _read_pictures(reading: Reading, pictures: Sequence[Entry], target: Path, stated: Stated) -> _Read:
    if stated.series is not None:
        raise NoSuchSeriesError
    facts = pictures_to_stack(reading, pictures, target)
    stack = PictureStack(
        np.memmap(target, np.uint8, "r", shape=facts.shape_zyxc), stated.spacing_zyx_mm, stated.window_hu
    )
    series = replace(facts.series, spacing_zyx_mm=stated.spacing_zyx_mm)
    warnings = picture_warnings(stated.spacing_zyx_mm, stated.window_hu)
    return _Read("pictures", series.series_id, stack, (series,), warnings, Eligibility("not_checked"))


def _digest(scanned: Sequence[ScannedEntry], read: _Read, stated: Stated) -> str:
    """Of all that was sent, so that an answer with other warnings is another study."""
    files = [one.entry.digest for one in scanned]
    if read.source != "pictures":
        files.sort()
    said = [*files, read.source, read.series_id, str(stated.series is not None), str(stated.spacing_zyx_mm)]
    return hashlib.sha256("\n".join([*said, str(stated.window_hu)]).encode("ascii")).hexdigest()


def _left_out(scanned: Sequence[ScannedEntry], source: Source) -> tuple[StudyWarning, ...]:
    warnings = []
    for code in sorted({one.left_out.code for one in scanned if one.left_out is not None}):
        files = [one.entry.where for one in scanned if one.left_out is not None and one.left_out.code == code]
        warnings.append(StudyWarning(code, f"{_count(len(files))} left out: {_listed(files)}."))
    other = sum(one.entry.kind in {"nifti", "picture"} and _source_of(one) != source for one in scanned)
    if other:
        warnings.append(
            StudyWarning("other-images-left-out", f"{_count(other)} left out, being images of another kind.")
        )
    plain = sum(_is_no_image(one) for one in scanned)
    if plain:
        warnings.append(StudyWarning("files-left-out", f"{_count(plain)} left out, not being images."))
    return tuple(warnings)


def _with_left_out(refused: InputError, scanned: Sequence[ScannedEntry]) -> InputError:
    """The refusal, with the files that were left out: a slice that is missed may be among them."""
    files = [one.entry.where for one in scanned if one.left_out is not None and one.left_out.detail != refused.detail]
    if not files:
        return refused
    return type(refused)(f"{refused.detail} {_count(len(files))} left out as unusable: {_listed(files)}.")


def _source_of(one: ScannedEntry) -> Source:
    return "nifti" if one.entry.kind == "nifti" else "pictures"


def _is_no_image(one: ScannedEntry) -> bool:
    return one.left_out is None and not one.slices and one.entry.kind not in {"nifti", "picture"}


def _count(count: int) -> str:
    return "1 file was" if count == 1 else f"{count} files were"


def _listed(files: Sequence[str]) -> str:
    shown = ", ".join(files[:_MOST_NAMED])
    return shown if len(files) <= _MOST_NAMED else f"{shown} and {len(files) - _MOST_NAMED} more"


def _check_stated(stated: Stated) -> None:
    spacing, window = stated.spacing_zyx_mm, stated.window_hu
    if spacing and not all(math.isfinite(value) and value > 0 for value in spacing):
        raise StatedValuesError
    if window and not (all(math.isfinite(value) for value in window) and window[0] < window[1]):
        raise StatedValuesError
