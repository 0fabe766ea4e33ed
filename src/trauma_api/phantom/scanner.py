"""From the drawn body to what a scanner shows: table, arms, metal, blur, noise, streaks, motion, the pixel grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.phantom.plan import Acquisition
from trauma_api.phantom.shapes import Canvas, Floats, ellipsoid_distance

MATRIX = 512
LARGEST_PIXEL_MM = 0.977
LOWEST_HU = -1024
_AIR_HU = -1000
_BLUR_MM = 0.8
_GRAIN_MM = 0.56
# What resampling from the scanner's grid to the working grid adds (a triangle 1.5 mm wide to each side).
_RESAMPLING_BLUR_MM = 0.61


@dataclass(frozen=True)
class Scan:
    """Images and labels on one grid: int16 and uint8 of (slices, rows, columns)."""

    voxels_zyx_hu: NDArray[np.int16]
    labels_zyx: NDArray[np.uint8]
    spacing_zyx_mm: tuple[float, float, float]


def add_surroundings(anatomy: Anatomy, acquisition: Acquisition, random: np.random.Generator) -> None:
    """The table, arms beside the body, and a metal hip."""
    canvas, body = anatomy.canvas, anatomy.body
    _, y, x = canvas.grid.axes(canvas.grid.everything)
    curve = y - body.back_mm - 18 + 0.00055 * x**2
    air = canvas.labels_zyx == Label.AIR
    top = (np.abs(curve) < 2.2) & (np.abs(x) < 215)
    canvas.paint(canvas.grid.everything, air & top, Label.TABLE, -120.0)
    canvas.paint(canvas.grid.everything, air & (curve > 2.2) & (curve < 22) & (np.abs(x) < 205), Label.TABLE, -940.0)
    if acquisition.arms:
        _add_arms(anatomy)
    if acquisition.metal:
        side = float(random.choice([-1, 1]))
        hip = (side * 0.88 * body.cavity_half_x, 0.02 * body.cavity_half_y, body.pelvis_z - 2)
        window = canvas.grid.window(hip, (16, 16, 60))
        inside = ellipsoid_distance(canvas.grid.axes(window), hip, (15, 15, 30)) < 0
        canvas.paint(window, inside, Label.METAL, 2800.0)


def _add_arms(anatomy: Anatomy) -> None:
    canvas, body = anatomy.canvas, anatomy.body
    for side in (-1, 1):
        reach = body.cavity_half_x + body.muscle_mm + body.fat_mm + 42
        window = canvas.grid.window((side * reach, 30, 60), (46, 46, 190))
        z, y, x = canvas.grid.axes(window)
        far = np.sqrt((x - side * reach) ** 2 + (y - 30) ** 2) + 0 * z
        air = canvas.labels_zyx[window] == Label.AIR
        canvas.paint(window, air & (far < 38), Label.MUSCLE, anatomy.enhancement.muscle)
        canvas.paint(window, air & (far < 38) & (far > 32), Label.FAT, anatomy.enhancement.fat)
        canvas.paint(window, air & (far < 11), Label.BONE, 900.0)
        canvas.paint(window, air & (far < 6), Label.BONE, 60.0)


def scan_on_working_grid(canvas: Canvas, acquisition: Acquisition, random: np.random.Generator) -> Scan:
    """The images as they look once resampled to the working grid, without going through the scanner's."""
    in_plane = canvas.grid.spacing_zyx_mm[1]
    blur_mm = float(np.hypot(_BLUR_MM, _RESAMPLING_BLUR_MM))
    grain_mm = float(np.hypot(_GRAIN_MM, _RESAMPLING_BLUR_MM))
    hu = _optics(canvas, acquisition, blur_mm, random)
    hu += _noise(hu.shape, grain_mm / in_plane, acquisition.noise_hu * _GRAIN_MM / grain_mm, canvas, random)
    side = round(MATRIX * acquisition.pixel_mm / in_plane)
    more = [((side - count) // 2, side - count - (side - count) // 2) for count in hu.shape[1:]]
    voxels = np.pad(_stored(hu), ((0, 0), *more), constant_values=_AIR_HU)
    return Scan(voxels, np.pad(canvas.labels_zyx, ((0, 0), *more)), canvas.grid.spacing_zyx_mm)


def scan_on_scanner_grid(canvas: Canvas, acquisition: Acquisition, random: np.random.Generator) -> Scan:
    """512 x 512 pixels, and thin slices interpolated where the working grid's are thicker."""
    hu = _optics(canvas, acquisition, _BLUR_MM, random)
    slices = _resampling(canvas.grid.shape_zyx[0], canvas.grid.spacing_zyx_mm[0], acquisition.slice_mm)
    rows, columns = (
        _centred_resampling(count, canvas.grid.spacing_zyx_mm[1], acquisition.pixel_mm)
        for count in canvas.grid.shape_zyx[1:]
    )
    fine = _resampled(hu, slices, rows, columns)
    labels = _resampled_labels(canvas.labels_zyx, slices, rows, columns)
    for index, slice_hu in enumerate(fine):
        one = _noise((1, *slice_hu.shape), _GRAIN_MM / acquisition.pixel_mm, acquisition.noise_hu, None, random)
        fine[index] += one[0] * _thickness_map(slice_hu)
    spacing = (acquisition.slice_mm, acquisition.pixel_mm, acquisition.pixel_mm)
    return Scan(_stored(fine), labels, spacing)


def _optics(canvas: Canvas, acquisition: Acquisition, blur_mm: float, random: np.random.Generator) -> Floats:
    """Blur in the slice and a little across slices, streaks from dense objects, breathing."""
    in_plane = blur_mm / canvas.grid.spacing_zyx_mm[1]
    hu = np.maximum(canvas.hu_zyx, LOWEST_HU)
    hu = ndimage.gaussian_filter(hu, (0.38, in_plane, in_plane), truncate=2.5)
    if acquisition.motion_mm:
        hu = _moved(hu, canvas, acquisition.motion_mm, random)
    if acquisition.arms or acquisition.metal:
        _add_streaks(hu, canvas, random)
    return np.asarray(hu, np.float32)


def _moved(hu: Floats, canvas: Canvas, motion_mm: float, random: np.random.Generator) -> Floats:
    """Breathing doubles the outlines of some slices of the upper abdomen."""
    first = int(random.integers(0, max(1, len(hu) // 2)))
    last = min(len(hu), first + int(random.integers(4, 12)))
    shift = motion_mm / canvas.grid.spacing_zyx_mm[1]
    part = hu[first:last]
    hu[first:last] = 0.62 * part + 0.38 * ndimage.shift(part, (0, -shift, 0.4 * shift), order=1, mode="nearest")
    return hu


def _add_streaks(hu: Floats, canvas: Canvas, random: np.random.Generator) -> None:
    """Dark and bright rays from metal, broad bands between arms; strongest near their cause."""
    y, x = canvas.grid.y[:, None], canvas.grid.x[None, :]
    for index in range(len(hu)):
        metal = canvas.labels_zyx[index] == Label.METAL
        if metal.any():
            rows, columns = np.nonzero(metal)
            cy, cx = float(canvas.grid.y[rows].mean()), float(canvas.grid.x[columns].mean())
            angle, far = np.arctan2(y - cy, x - cx), np.sqrt((y - cy) ** 2 + (x - cx) ** 2)
            rays = sum(np.sin(k * angle + random.uniform(0, 6.3)) for k in (3, 7, 11))
            hu[index] += np.asarray(38 * rays * np.exp(-far / 70), np.float32)
        elif (canvas.labels_zyx[index, :, 0:40] == Label.BONE).any() or random.random() < 0.3:
            band = np.sin((y - 30) / random.uniform(7, 14) + random.uniform(0, 6.3))
            hu[index] += np.asarray(7 * band * np.exp(-np.abs(y - 30) / 50), np.float32)


def _noise(
    shape: tuple[int, ...], grain_px: float, sigma_hu: float, canvas: Canvas | None, random: np.random.Generator
) -> Floats:
    """Normal noise with a grain, stronger in the middle of the body when a canvas is given."""
    white = random.standard_normal(shape, np.float32)
    grained = ndimage.gaussian_filter(white, (0, grain_px, grain_px), truncate=3)
    grained *= sigma_hu / max(float(grained[len(grained) // 2].std()), 1e-6)
    if canvas is not None:
        grained *= np.stack([_thickness_map(canvas.hu_zyx[index]) for index in range(shape[0])])
    return np.asarray(grained, np.float32)


def _thickness_map(slice_hu: Floats) -> Floats:
    """How strong noise is: 1.15 in the body's middle, 0.8 at its edge and outside; a coarse map is enough."""
    coarse = (slice_hu[::8, ::8] > -400).astype(np.float32)
    smooth = ndimage.uniform_filter(coarse, max(3, int(coarse.shape[0] * 0.4)))
    weight = 0.75 + 0.45 * smooth / max(float(smooth.max()), 1e-3)
    rows, columns = slice_hu.shape
    return np.asarray(np.kron(weight, np.ones((8, 8), np.float32))[:rows, :columns], np.float32)


def _resampling(count: int, step_mm: float, wanted_mm: float) -> Floats:
    """Weights (new, count) of linear interpolation along z from the first slice on."""
    new = int((count - 1) * step_mm / wanted_mm) + 1
    return _linear_weights(np.arange(new, dtype=np.float64) * wanted_mm / step_mm, count)


def _centred_resampling(count: int, step_mm: float, wanted_mm: float) -> Floats:
    """Weights (512, count) of linear interpolation about the middle; zero beyond the ends."""
    where = (np.arange(MATRIX, dtype=np.float64) - (MATRIX - 1) / 2) * wanted_mm / step_mm + (count - 1) / 2
    weights = _linear_weights(np.clip(where, 0, count - 1), count)
    weights[(where < 0) | (where > count - 1)] = 0
    return weights


def _linear_weights(where: NDArray[np.float64], count: int) -> Floats:
    left = np.minimum(where.astype(int), max(count - 2, 0))
    share = (where - left).astype(np.float32)
    weights = np.zeros((len(where), count), np.float32)
    weights[np.arange(len(where)), left] = 1 - share
    weights[np.arange(len(where)), np.minimum(left + 1, count - 1)] += share
    return weights


def _resampled(volume: Floats, slices: Floats, rows: Floats, columns: Floats) -> Floats:
    fine = np.empty((len(slices), MATRIX, MATRIX), np.float32)
    for index, weights in enumerate(slices):
        used = np.flatnonzero(weights)
        one = np.tensordot(weights[used], volume[used] - _AIR_HU, axes=1)
        fine[index] = rows @ one @ columns.T + _AIR_HU
    return fine


def _resampled_labels(labels: NDArray[np.uint8], slices: Floats, rows: Floats, columns: Floats) -> NDArray[np.uint8]:
    """Blood by linear interpolation of its mask, so that its edge follows the images; other labels from the nearest."""
    nearest = np.ix_(rows.argmax(axis=1), columns.argmax(axis=1))
    outside = ~np.outer(rows.any(axis=1), columns.any(axis=1))
    fine = np.empty((len(slices), MATRIX, MATRIX), np.uint8)
    for index, weights in enumerate(slices):
        used = np.flatnonzero(weights)
        bloody = labels[used] >= BLOOD_LABELS[0]
        source = labels[int(weights.argmax())]
        plain = source[nearest]
        if bloody.any():
            share = np.tensordot(weights[used], bloody.astype(np.float32), axes=1)
            blood = rows @ share @ columns.T >= 0.5
            near_blood = ndimage.maximum_filter(np.where(bloody, labels[used], 0).max(axis=0), 3)[nearest]
            near_tissue = ndimage.maximum_filter(np.where(source >= BLOOD_LABELS[0], 0, source), 3)[nearest]
            was_blood = plain >= BLOOD_LABELS[0]
            plain = np.where(blood & ~was_blood, near_blood, np.where(~blood & was_blood, near_tissue, plain))
        plain[outside] = Label.AIR
        fine[index] = plain
    return fine


def _stored(hu: Floats) -> NDArray[np.int16]:
    np.clip(np.rint(hu, out=hu), LOWEST_HU, 3071, out=hu)
    return hu.astype(np.int16)
