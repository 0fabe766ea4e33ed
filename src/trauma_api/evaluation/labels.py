"""Label volumes on the grid of a study, and what a mask is worth against them."""

import math
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.evaluation.cases import BloodLabels
from trauma_api.imaging.affines import axis_order
from trauma_api.imaging.scan import Share, scan
from trauma_api.imaging.slices import ScannedEntry, SliceHeader
from trauma_api.imaging.uploads import ReadLimits, UploadedFile
from trauma_api.imaging.volume import CTVolume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_OFF = 0.5
"""Of a voxel's edge by which a corner of the label volume may lie off its place."""


class LabelsUnreadableError(InputError):
    """The label volume is no NIfTI image."""

    code = "labels-unreadable"
    title = "Label volume cannot be read"
    public_message = "The label volume is damaged or no NIfTI image."


class LabelsMismatchError(InputError):
    """The label volume is not on the voxels of the study."""

    code = "labels-mismatch"
    title = "Label volume does not fit"
    public_message = "The label volume does not lie on the voxels of the study that it is beside."


def blood_truth(labels: BloodLabels, volume: CTVolume) -> NDArray[np.bool_]:
    """Where the label volume has blood, on the study's voxels: bool (slices, rows, columns).

    Raises LabelsUnreadableError, LabelsMismatchError.
    """
    stored, affine_lps = _read(labels.path)
    order = axis_order(affine_lps)
    canonical = stored.transpose(order.axes)
    canonical = np.flip(canonical, tuple(axis for axis, flip in enumerate(order.flips) if flip))
    shape = (stored.shape[0], stored.shape[1], stored.shape[2])
    _check_grid(canonical.shape, order.reordered(affine_lps, shape), volume)
    return np.asarray(canonical != 0 if labels.values is None else np.isin(canonical, labels.values))


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    try:
        image = nib.Nifti1Image.from_filename(path)
        values = np.asanyarray(image.dataobj)
        affine = np.asarray(_RAS_TO_LPS @ image.affine, dtype=np.float64)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise LabelsUnreadableError from error
    if values.ndim != 3 or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise LabelsUnreadableError
    return values, affine


def _check_grid(shape: tuple[int, ...], affine_lps: NDArray[np.float64], volume: CTVolume) -> None:
    if shape != volume.voxels_zyx_hu.shape:
        raise LabelsMismatchError
    if volume.affine_lps is None:
        return
    last = np.array(shape) - 1
    corners = np.array([[*np.where(np.array(bits), last, 0), 1] for bits in np.ndindex(2, 2, 2)], dtype=np.float64)
    off = np.linalg.inv(volume.affine_lps) @ affine_lps @ corners.T - corners.T
    if np.abs(off[:3]).max() > _MOST_OFF:
        raise LabelsMismatchError


def dice(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float | None:
    """2 |A and B| / (|A| + |B|); None where the truth is empty, as it then only says whether anything was found."""
    true_voxels = int(np.count_nonzero(truth))
    if true_voxels == 0:
        return None
    return 2 * int(np.count_nonzero(truth & found)) / (true_voxels + int(np.count_nonzero(found)))


def volume_ml(blood: NDArray[np.bool_], volume: CTVolume) -> float | None:
    """Millilitres of a mask; None without a spacing."""
    voxel_ml = volume.voxel_ml_per_slice
    return None if voxel_ml is None else float(np.count_nonzero(blood, axis=(1, 2)) @ voxel_ml)


def instance_numbers(paths: tuple[Path, ...]) -> list[int | None]:
    """Instance numbers of the slices of one DICOM series, head to feet; none where files do not say their places."""
    files = [UploadedFile(position, path) for position, path in enumerate(paths)]
    with tempfile.TemporaryDirectory() as scratch:
        scanned = list(scan(files, Path(scratch), Share(0, 1), ReadLimits()))
    headers = [header for entry in scanned if isinstance(entry, ScannedEntry) for header in entry.slices]
    if any(header.position_mm is None for header in headers):
        return []
    return [header.instance_number for header in sorted(headers, key=_towards_feet)]


def _towards_feet(header: SliceHeader) -> float:
    return -header.position_mm[2] if header.position_mm is not None else math.inf
