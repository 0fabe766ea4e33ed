"""Real CTs with TotalSegmentator's label map as backgrounds for inserted injury; turned, sized and shifted at will."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.uploads import ReadLimits, UploadedFile, read_upload
from trauma_api.imaging.volume import CTVolume
from trauma_api.phantom.insertion import SCANNER_BLUR_MM
from trauma_api.phantom.labels import Label
from trauma_api.phantom.real_anatomy import organs_of_totalsegmentator

LABEL_MAP = "totalseg_labels_model_output.nii.gz"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_AIR_HU, _BODY_HU, _MARGIN_PX = -1000.0, -300.0, 8
_JITTER_FROM_HU = -500.0
_SOFT_HU = (-20, 110)
_CONTRAST_EDGE_MM, _ARTERIAL_SHARE = 1.5, 0.4
_CONTRAST_HU: dict[Label, tuple[tuple[float, float], tuple[float, float]]] = {
    Label.AORTA: ((180.0, 320.0), (70.0, 130.0)),
    Label.VEIN: ((10.0, 90.0), (70.0, 140.0)),
    Label.VESSEL: ((150.0, 280.0), (50.0, 120.0)),
    Label.LIVER: ((5.0, 30.0), (35.0, 65.0)),
    Label.SPLEEN: ((40.0, 100.0), (50.0, 85.0)),
    Label.LEFT_KIDNEY: ((70.0, 140.0), (100.0, 170.0)),
    Label.RIGHT_KIDNEY: ((70.0, 140.0), (100.0, 170.0)),
    Label.PANCREAS: ((30.0, 70.0), (30.0, 60.0)),
    Label.MUSCLE: ((0.0, 8.0), (4.0, 18.0)),
    Label.SOFT_TISSUE: ((10.0, 120.0), (20.0, 110.0)),
    Label.BOWEL: ((0.0, 15.0), (0.0, 30.0)),
    Label.STOMACH: ((0.0, 10.0), (0.0, 20.0)),
}
"""What contrast adds to unenhanced tissue, lowest and highest HU, in the arterial and in the portal phase; wide on
purpose, as a model should know many."""


@dataclass(frozen=True)
class Background:
    """Images (int16, -1024 to 3071 HU) and `Label` values of organs on one canonical grid (slices, rows, columns)."""

    voxels_zyx_hu: NDArray[np.int16]
    organs_zyx: NDArray[np.uint8]
    spacing_zyx_mm: tuple[float, float, float]
    blur_mm: float = SCANNER_BLUR_MM
    """How soft its edges are: of coarse pixels, half a pixel."""


def load_background(folder: Path) -> Background:
    """Read a CT as an upload is read, and its label map, taken to the CT's grid.

    Raises OSError without a label map, and InputError or ValueError when the folder holds no CT with a spacing.
    """
    voxels, affine_lps, spacing_zyx_mm = _read(folder)
    image = nibabel.Nifti1Image.from_filename(folder / LABEL_MAP)
    to_map = np.linalg.inv(_RAS_TO_LPS @ image.header.get_best_affine()) @ affine_lps
    classes = np.asarray(image.dataobj).astype(np.uint8)
    on_grid = ndimage.affine_transform(classes, to_map, output_shape=voxels.shape, order=0, mode="constant", cval=0)
    blur_mm = max(SCANNER_BLUR_MM, 0.5 * spacing_zyx_mm[1])
    return Background(voxels, organs_of_totalsegmentator(on_grid), spacing_zyx_mm, blur_mm)


def load_unlabelled(folder: Path) -> Background:
    """Read a CT without a label map, to learn from as it is: everything of soft tissue's HU is called muscle.

    Raises InputError or ValueError when the folder holds no CT with a spacing.
    """
    voxels, _, spacing_zyx_mm = _read(folder)
    low, high = _SOFT_HU
    organs = np.where((voxels > low) & (voxels < high), int(Label.MUSCLE), int(Label.AIR)).astype(np.uint8)
    return Background(voxels, organs, spacing_zyx_mm)


def _read(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.float64], tuple[float, float, float]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LABEL_MAP)
    sandbox = Sandbox(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            files = [UploadedFile(position, path) for position, path in enumerate(paths)]
            stack = read_upload(files, Path(scratch), sandbox, limits=ReadLimits(min_side=1)).stack
            if not isinstance(stack, CTVolume) or stack.affine_lps is None or stack.spacing_zyx_mm is None:
                raise ValueError(f"{folder} holds no CT with a spacing")
            voxels = np.clip(np.rint(stack.voxels_zyx_hu), _LOWEST_HU, _HIGHEST_HU).astype(np.int16)
            return voxels, stack.affine_lps, stack.spacing_zyx_mm
    finally:
        sandbox.close()


def enhanced(background: Background, random: np.random.Generator) -> Background:
    """The likeness of the arterial or portal phase of an unenhanced CT: each organ brighter, its texture as it is."""
    phase = 0 if random.random() < _ARTERIAL_SHARE else 1
    more_hu = np.zeros(background.organs_zyx.shape, np.float32)
    for label, phases in _CONTRAST_HU.items():
        more_hu[background.organs_zyx == label] = random.uniform(*phases[phase])
    edge_voxels = [_CONTRAST_EDGE_MM / mm for mm in background.spacing_zyx_mm]
    more_hu = ndimage.gaussian_filter(more_hu, edge_voxels)
    hu = background.voxels_zyx_hu
    voxels = np.where(hu > _JITTER_FROM_HU, hu + np.rint(more_hu), hu)
    return replace(background, voxels_zyx_hu=np.clip(voxels, _LOWEST_HU, _HIGHEST_HU).astype(np.int16))


def varied(background: Background, random: np.random.Generator, pixel_mm: float) -> Background:
    """Another patient's likeness: turned by up to 8 degrees in the slice, up to 12 % larger or smaller, shifted by up
    to 12 mm, on pixels of ``pixel_mm``, HU of tissue scaled by up to 4 % and shifted by up to 5. Never mirrored."""
    angle, zoom = float(random.uniform(-0.14, 0.14)), float(random.uniform(0.9, 1.12))
    stretch = float(random.uniform(0.95, 1.05))
    shift_mm = random.uniform(-12, 12, 2)
    scale, more = float(random.uniform(0.96, 1.04)), float(random.uniform(-5, 5))
    spacing = background.spacing_zyx_mm
    shape = background.voxels_zyx_hu.shape
    side = [round(count * mm * 1.12 / pixel_mm) for count, mm in zip(shape[1:], spacing[1:], strict=True)]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sizes = np.diag([zoom * stretch, zoom / stretch])
    matrix = np.diag(1 / np.array(spacing[1:])) @ turn @ np.linalg.inv(sizes) * pixel_mm
    middle_in, middle_out = (np.array(shape[1:]) - 1) / 2, (np.array(side) - 1) / 2
    offset = middle_in - matrix @ (middle_out + shift_mm / pixel_mm)
    hu = np.stack([
        ndimage.affine_transform(plane, matrix, offset, side, np.float32, order=1, cval=_AIR_HU)
        for plane in background.voxels_zyx_hu.astype(np.float32)
    ])  # fmt: skip
    organs = np.stack([
        ndimage.affine_transform(plane, matrix, offset, side, np.uint8, order=0, cval=int(Label.AIR))
        for plane in background.organs_zyx
    ])  # fmt: skip
    hu = np.where(hu > _JITTER_FROM_HU, hu * scale + more, hu)
    voxels = np.clip(np.rint(hu), _LOWEST_HU, _HIGHEST_HU).astype(np.int16)
    return Background(voxels, organs, (spacing[0], pixel_mm, pixel_mm), background.blur_mm)


def body_box(voxels_zyx_hu: NDArray[np.int16]) -> tuple[slice, slice]:
    """Rows and columns that hold the body in any slice, and 8 pixels more."""
    body = ndimage.binary_opening((voxels_zyx_hu > _BODY_HU), np.ones((1, 5, 5), bool)).any(axis=0)
    parts, _ = ndimage.label(body)
    largest = parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1
    rows, columns = np.flatnonzero(largest.any(axis=1)), np.flatnonzero(largest.any(axis=0))
    return (
        slice(max(0, rows[0] - _MARGIN_PX), rows[-1] + 1 + _MARGIN_PX),
        slice(max(0, columns[0] - _MARGIN_PX), columns[-1] + 1 + _MARGIN_PX),
    )
