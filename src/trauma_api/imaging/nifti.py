"""NIfTI images to one CT volume."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.imaging.entries import Entry
from trauma_api.imaging.geometry import NotAxialError, canonical, orientation_of
from trauma_api.imaging.pixels import floored, has_air_or_fat
from trauma_api.imaging.series import ImageTooLargeError, NotHounsfieldError
from trauma_api.imaging.study import ReadLimits, ReadStudy, SeriesSummary, StudyWarning
from trauma_api.imaging.volume import CTVolume, HUArray

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NIFTI2_HEADER_BYTES = 540
_INT16 = np.iinfo(np.int16)


class MalformedNiftiError(InputError):
    """The file has a NIfTI header and cannot be read."""

    code = "malformed-nifti"
    title = "NIfTI file is damaged"
    public_message = "The NIfTI file is damaged or cut short. Write it again."


class NiftiNot3DError(InputError):
    """Not three axes."""

    code = "nifti-not-3d"
    title = "NIfTI image is not three-dimensional"
    public_message = "The NIfTI image has not three dimensions. Send one CT volume."


class NiftiUnitsError(InputError):
    """Metres or micrometres."""

    code = "nifti-units"
    title = "NIfTI units are not millimetres"
    public_message = "The NIfTI header states a unit other than millimetres. Write the image in millimetres."


class NiftiNoOrientationError(InputError):
    """Neither qform nor sform is set, or they do not make a grid."""

    code = "nifti-no-orientation"
    title = "NIfTI image has no orientation"
    public_message = (
        "The NIfTI header sets neither a valid qform nor a valid sform, so left and right are unknown. "
        "Convert the image again from DICOM."
    )


class SeveralVolumesError(InputError):
    """More than one CT volume."""

    code = "several-volumes"
    title = "Several CT volumes"
    public_message = "The upload holds more than one NIfTI CT volume. Send one."


def read_nifti(entries: Sequence[Entry], limits: ReadLimits) -> ReadStudy:
    """Read the one NIfTI image that is a CT in HU into canonical order, floored at -1024 HU; label maps are left out.

    NIfTI-1 and NIfTI-2 in one file. The affine is the sform, or the qform where that is not set (nibabel's order), and
    is turned from RAS to LPS. int16 where the values are whole and fit, else float32. Raises the errors of this
    module, NotAxialError, ImageTooLargeError, and NotHounsfieldError when no voxel is below -200 HU.
    """
    found = [(entry, _read(entry.path, limits)) for entry in entries]
    volumes = [(entry, image) for entry, image in found if has_air_or_fat(image[0])]
    if not volumes:
        raise NotHounsfieldError
    if len(volumes) > 1:
        raise SeveralVolumesError
    chosen, (values, affine, warnings) = volumes[0]
    voxels, affine_lps = canonical(_compact(values), affine)
    if orientation_of(np.cross(affine_lps[:3, 1], affine_lps[:3, 2])) != "axial":
        raise NotAxialError
    volume = CTVolume(voxels, affine_lps)
    summaries = tuple(_summary(image[0], volume if entry is chosen else None) for entry, image in found)
    return ReadStudy(chosen.sha256, "nifti", volume, summaries, warnings)


_Image = tuple[NDArray[np.generic], NDArray[np.float64], tuple[StudyWarning, ...]]


def _read(path: Path, limits: ReadLimits) -> _Image:
    try:
        with path.open("rb") as stream:
            two = int.from_bytes(stream.read(4), "little") in {_NIFTI2_HEADER_BYTES, 0x1C020000}
            stream.seek(0)
            image = (nib.Nifti2Image if two else nib.Nifti1Image).from_stream(stream)
            warnings = _check_header(image.header, limits)
            affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
            values = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, ValueError, OSError, EOFError, ArithmeticError, MemoryError, TypeError):
        raise MalformedNiftiError from None
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NiftiNoOrientationError
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise NotHounsfieldError
    return values, affine, warnings


def _check_header(header: Any, limits: ReadLimits) -> tuple[StudyWarning, ...]:
    shape = header.get_data_shape()
    if len(shape) != 3 or 0 in shape:
        raise NiftiNot3DError
    if math.prod(shape) > limits.max_voxels:
        raise ImageTooLargeError
    if int(header["qform_code"]) <= 0 and int(header["sform_code"]) <= 0:
        raise NiftiNoOrientationError
    unit = header.get_xyzt_units()[0]
    if unit == "mm":
        return ()
    if unit != "unknown":
        raise NiftiUnitsError
    return (StudyWarning("nifti-units-unknown", "The NIfTI header states no unit; millimetres were taken."),)


def _compact(values: NDArray[np.generic]) -> HUArray:
    floor = floored(values.astype(np.float32))
    if floor.max() <= _INT16.max and bool((floor == np.rint(floor)).all()):
        return floor.astype(np.int16)
    return floor


def _summary(values: NDArray[np.generic], volume: CTVolume | None) -> SeriesSummary:
    shape = volume.voxels_zyx_hu.shape if volume else values.shape[::-1]
    return SeriesSummary(
        series_uid=None,
        modality="CT" if volume else "OT",
        slice_count=int(shape[0]),
        rows=int(shape[1]),
        columns=int(shape[2]),
        spacing_zyx_mm=volume.spacing_zyx_mm if volume else None,
        orientation="axial" if volume else None,
        lossy=False,
        transfer_syntax_uid=None,
        selected=volume is not None,
        reason="selected" if volume else "not-hu",
    )
