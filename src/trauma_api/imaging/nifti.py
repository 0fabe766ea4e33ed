"""NIfTI images to one CT volume, written to a file of voxels."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.imaging.affines import AxisOrder, axis_order, rows_of, sizes_agree
from trauma_api.imaging.geometry import NotAxialError, orientation_of
from trauma_api.imaging.pixels import StackType, floored, has_air_or_fat
from trauma_api.imaging.series import ImageTooLargeError, ImageTooSmallError, NotHounsfieldError
from trauma_api.imaging.slices import Entry
from trauma_api.imaging.study import ReadLimits, SeriesSummary, StudyWarning
from trauma_api.imaging.volume import spacing_of

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NIFTI2_HEADER_BYTES = 540
_INT16_MAX = int(np.iinfo(np.int16).max)
_SLAB_VOXELS = 2**20
"""Read at once: 8 MiB as float64, with copies below 64 MiB."""


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


class NiftiAffineConflictError(InputError):
    """The header places the voxels in two ways that cannot both be true."""

    code = "nifti-affine-conflict"
    title = "NIfTI header contradicts itself"
    public_message = (
        "The NIfTI header's qform, sform and pixdim disagree about the size of the voxels or about which way is left. "
        "Convert the image again from DICOM."
    )


class SeveralVolumesError(InputError):
    """More than one CT volume."""

    code = "several-volumes"
    title = "Several CT volumes"
    public_message = "The upload holds more than one NIfTI CT volume. Send one."


@dataclass(frozen=True)
class NiftiStack:
    """The one CT volume among NIfTI files, as written: canonical order, HU floored at -1024, C order, no header."""

    entry: Entry
    """The file that it came from."""
    shape_zyx: tuple[int, int, int]
    dtype: StackType
    affine_lps: tuple[tuple[float, ...], ...]
    """Four rows of four; maps (slice, row, column, 1) to millimetres."""
    series: tuple[SeriesSummary, ...]
    """One for each file, in the order sent."""
    warnings: tuple[StudyWarning, ...]


@dataclass(frozen=True)
class _Image:
    """One file's header, checked, and what its values showed. Shapes and affine as stored."""

    entry: Entry
    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64]
    order: AxisOrder
    warnings: tuple[StudyWarning, ...]
    is_ct: bool
    dtype: StackType

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        slices, rows, columns = (self.shape[axis] for axis in self.order.axes)
        return slices, rows, columns


def read_nifti(entries: Sequence[Entry], target: Path, limits: ReadLimits) -> NiftiStack:
    """Write the one NIfTI image that is a CT in HU to ``target``, in canonical order; label maps are left out.

    NIfTI-1 and NIfTI-2 in one file each, not compressed. The affine is the sform, or the qform where that is not set
    (nibabel's order), turned from RAS to LPS. Axes beyond the third are taken when their length is 1. int16 where the
    values are whole and fit, else float32. The file is read slab by slab, twice, and the stack is mapped, so that
    neither is ever in memory as a whole.
    Raises the errors of this module, NotAxialError, ImageTooLargeError, ImageTooSmallError, NotHounsfieldError when no
    voxel is below -200 HU, and OSError when ``target`` cannot be written.
    """
    images = [_inspect(entry, limits) for entry in entries]
    volumes = [image for image in images if image.is_ct]
    if not volumes:
        raise NotHounsfieldError
    if len(volumes) > 1:
        raise SeveralVolumesError
    chosen = volumes[0]
    if min(chosen.shape_zyx[1:]) < limits.min_side:
        raise ImageTooSmallError
    affine = chosen.order.reordered(chosen.affine_lps, chosen.shape)
    if orientation_of(np.cross(affine[:3, 1], affine[:3, 2])) != "axial":
        raise NotAxialError
    _write(chosen, target)
    series = tuple(_summary(image, affine if image is chosen else None) for image in images)
    return NiftiStack(chosen.entry, chosen.shape_zyx, chosen.dtype, rows_of(affine), series, chosen.warnings)


def nifti_series_id(entry: Entry) -> str:
    """The series id of a NIfTI file."""
    return entry.digest[:12]


def _inspect(entry: Entry, limits: ReadLimits) -> _Image:
    """Check a file's header, and look at all its values once."""
    with _opened(entry.path) as image:
        header = image.header
        shape = _checked_shape(header, limits)
        warnings = _checked_unit(header)
        affine = _checked_affine(header)
        order = axis_order(affine)
        slices, rows, columns = (shape[axis] for axis in order.axes)
        if max(rows, columns) > limits.max_side or slices > limits.max_frames:
            raise ImageTooLargeError
        is_ct, whole = False, True
        for _, values in _slabs(image, shape):
            if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
                raise NotHounsfieldError
            is_ct = is_ct or has_air_or_fat(values)
            whole = whole and _fits_int16(values)
    return _Image(entry, shape, affine, order, warnings, is_ct, "<i2" if whole else "<f4")


def _write(chosen: _Image, target: Path) -> None:
    count = math.prod(chosen.shape) * np.dtype(chosen.dtype).itemsize
    with target.open("wb") as file:
        # A mapping that meets a full disk ends the process; an allocation that does is an OSError.
        os.posix_fallocate(file.fileno(), 0, count)
    stack = np.memmap(target, chosen.dtype, "r+", shape=chosen.shape_zyx)
    as_stored = chosen.order.undone(stack)
    with _opened(chosen.entry.path) as image:
        for slab, values in _slabs(image, chosen.shape):
            as_stored[slab] = _hounsfield(values)
    stack.flush()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as stream:
            two = int.from_bytes(stream.read(4), "little") in {_NIFTI2_HEADER_BYTES, 0x1C020000}
            stream.seek(0)
            yield (nib.Nifti2Image if two else nib.Nifti1Image).from_stream(stream)
    except (ImageFileError, HeaderDataError, ValueError, OSError, EOFError, ArithmeticError, MemoryError, TypeError):
        raise MalformedNiftiError from None


def _checked_shape(header: Any, limits: ReadLimits) -> tuple[int, int, int]:
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) < 3 or min(shape) < 1 or any(length != 1 for length in shape[3:]):
        raise NiftiNot3DError
    if math.prod(shape) > limits.max_voxels:
        raise ImageTooLargeError
    return shape[0], shape[1], shape[2]


def _checked_unit(header: Any) -> tuple[StudyWarning, ...]:
    unit = header.get_xyzt_units()[0]
    if unit == "mm":
        return ()
    if unit != "unknown":
        raise NiftiUnitsError
    return (StudyWarning("nifti-units-unknown", "The NIfTI header states no unit; millimetres were taken."),)


def _checked_affine(header: Any) -> NDArray[np.float64]:
    """Voxel to LPS; a qform or sform beside it has to agree, but for a turn that leaves each axis its direction."""
    sform, qform = (_usable(form, code) for form, code in (header.get_sform(coded=True), header.get_qform(coded=True)))
    affine = qform if sform is None else sform
    if affine is None:
        raise NiftiNoOrientationError
    stated_mm = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if not sizes_agree(affine, stated_mm):
        raise NiftiAffineConflictError
    if sform is not None and qform is not None and axis_order(sform) != axis_order(qform):
        raise NiftiAffineConflictError
    return affine


def _usable(form: NDArray[np.float64] | None, code: int) -> NDArray[np.float64] | None:
    if form is None or code <= 0:
        return None
    affine = _RAS_TO_LPS @ np.asarray(form, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NiftiNoOrientationError
    return affine


def _slabs(image: Any, shape: tuple[int, int, int]) -> Iterator[tuple[tuple[slice, slice, slice], NDArray[np.generic]]]:
    """The scaled values, a few slices of the third axis or rows of the second at a time, as they lie in the file."""
    rows_at_once = max(1, min(shape[1], _SLAB_VOXELS // shape[0]))
    slices_at_once = max(1, _SLAB_VOXELS // (shape[0] * shape[1]))
    beyond = (0,) * (len(image.shape) - 3)
    for start, row in product(range(0, shape[2], slices_at_once), range(0, shape[1], rows_at_once)):
        slab = (slice(None), slice(row, row + rows_at_once), slice(start, start + slices_at_once))
        yield slab, np.asanyarray(image.dataobj[(*slab, *beyond)])


def _hounsfield(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return floored(values.astype(np.float32))


def _fits_int16(values: NDArray[np.generic]) -> bool:
    if values.dtype.kind in "iu":
        return bool(values.max() <= _INT16_MAX)
    voxels = _hounsfield(values)
    return bool(voxels.max() <= _INT16_MAX) and bool((voxels == np.rint(voxels)).all())


def _summary(image: _Image, affine_lps: NDArray[np.float64] | None) -> SeriesSummary:
    chosen = affine_lps is not None
    slices, rows, columns = image.shape_zyx
    return SeriesSummary(
        series_id=nifti_series_id(image.entry),
        series_uid=None,
        modality="CT" if chosen else "OT",
        slice_count=slices,
        rows=rows,
        columns=columns,
        spacing_zyx_mm=None if affine_lps is None else spacing_of(affine_lps),
        orientation="axial" if chosen else None,
        phase="unknown",
        lossy=False,
        transfer_syntax_uid=None,
        selected=chosen,
        reason="selected" if chosen else "not-hu",
        score=None,
        score_reasons=(),
    )
