"""The way in: uploaded files to one image stack."""

import math
from collections.abc import Sequence
from pathlib import Path

from trauma_api.errors import InputError
from trauma_api.imaging.dicom import read_dicom, read_dicom_headers
from trauma_api.imaging.entries import Entry, collect_entries
from trauma_api.imaging.nifti import read_nifti
from trauma_api.imaging.pictures import read_pictures
from trauma_api.imaging.quiet import quiet_libraries
from trauma_api.imaging.study import ReadLimits, ReadStudy, SeriesSummary, StudyWarning, UploadedFile

__all__ = [
    "ReadLimits",
    "ReadStudy",
    "SeriesSummary",
    "StudyWarning",
    "UploadedFile",
    "read_upload",
]


class UnrecognizedUploadError(InputError):
    """Nothing in the upload is an image of a known kind."""

    code = "unrecognized-upload"
    title = "No image recognised"
    public_message = "Nothing in the upload is a DICOM, NIfTI, PNG or JPEG image. Send the axial CT series."


class MixedUploadError(InputError):
    """Images of several kinds."""

    code = "mixed-upload"
    title = "Several kinds of images"
    public_message = "The upload mixes DICOM, NIfTI and pictures. Send one kind."


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


def read_upload(
    files: Sequence[UploadedFile],
    scratch: Path,
    *,
    spacing_zyx_mm: tuple[float, float, float] | None = None,
    window_hu: tuple[float, float] | None = None,
    limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
) -> ReadStudy:
    """Turn the files of one upload into one image stack, judging each by its content and not by its name.

    DICOM files (one CT series is chosen), ZIP archives of images, one NIfTI CT, or PNG and JPEG pictures, for which
    alone a spacing (mm) and a window (HU of black and of white) may be stated. Files that are no images are left out
    with a warning. ``scratch`` is an empty private folder, which holds unpacked files until the caller removes it.

    Raises InputError only, one subclass per reason; its text holds no patient data.
    """
    quiet_libraries()
    _check_stated(spacing_zyx_mm, window_hu)
    entries = collect_entries(files, scratch, limits)
    headers, warnings = read_dicom_headers([entry for entry in entries if entry.kind in {"dicom", "maybe-dicom"}])
    volumes = [entry for entry in entries if entry.kind == "nifti"]
    pictures = [entry for entry in entries if entry.kind == "picture"]
    if bool(headers) + bool(volumes) + bool(pictures) > 1:
        raise MixedUploadError
    if (spacing_zyx_mm or window_hu) and (headers or volumes):
        raise SpacingNotWantedError
    if headers:
        study = read_dicom(headers, limits)
    elif volumes:
        study = read_nifti(volumes, limits)
    elif pictures:
        study = read_pictures(pictures, spacing_zyx_mm, window_hu, limits)
    else:
        raise UnrecognizedUploadError
    used = {header.entry.sha256 for header in headers} | {entry.sha256 for entry in (*volumes, *pictures)}
    return _with_warnings(study, (*warnings, *_left_out(entries, used)))


def _with_warnings(study: ReadStudy, warnings: tuple[StudyWarning, ...]) -> ReadStudy:
    return ReadStudy(study.digest, study.source, study.stack, study.series, (*study.warnings, *warnings))


def _left_out(entries: Sequence[Entry], used: set[str]) -> tuple[StudyWarning, ...]:
    count = sum(entry.sha256 not in used for entry in entries)
    if not count:
        return ()
    what = "1 file is not an image and was" if count == 1 else f"{count} files are not images and were"
    return (StudyWarning("files-left-out", f"{what} left out."),)


def _check_stated(spacing_zyx_mm: tuple[float, float, float] | None, window_hu: tuple[float, float] | None) -> None:
    if spacing_zyx_mm and not all(math.isfinite(value) and value > 0 for value in spacing_zyx_mm):
        raise StatedValuesError
    if window_hu and not (all(math.isfinite(value) for value in window_hu) and window_hu[0] < window_hu[1]):
        raise StatedValuesError
