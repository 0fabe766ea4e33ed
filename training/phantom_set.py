"""Draws the phantoms that the models are trained on, as arrays ready to be read.

    OMP_NUM_THREADS=1 python training/phantom_set.py --seeds 0 1200 --processes 2
    OMP_NUM_THREADS=1 python training/phantom_set.py --full-size --out build/phantom_full --seeds 1200 1500
    OMP_NUM_THREADS=1 python training/phantom_set.py --full-size --out build/phantom_full_val --seeds 90000 90040

Folders are ``{out}/{seed:06d}``, written whole or not at all; those that are there are left alone, so that a run goes
on after a stop and a training may read while the set grows. Phantoms are drawn on pixels of 1.5 mm, which is fast, or,
with ``--full-size``, as a scanner shows them and resampled to the segmenter's pixels as its engine does it, which is
what a study looks like to the models; the segmenter is trained on these only. Each folder holds

    truth.json    `PhantomTruth`, with the spacing of the arrays
    hu_u8.npy     uint8 (slices, rows, columns), cropped to the body: HU = value * 2 - 200, clipped to -200..310
    labels.npy    uint8, the same crop: `Label`
    rgb.npy       uint8 (slices, 224, 224, 3): the trunk as the reader's processor resizes it
    patches.npy   uint8 (slices, 16, 16, groups): how much of each 14 pixel patch of rgb.npy is of each of `GROUPS`, 255
                  for all of it

Seeds from 100000 are held out for the evaluation, those from 90000 for the choice of thresholds.
"""

import argparse
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from transformers import SiglipImageProcessor

from segmenter_data import PIXEL_MM
from trauma_api.engines.unet import to_pixel_spacing
from trauma_api.imaging.volume import CTVolume
from trauma_api.imaging.windowing import model_rgb
from trauma_api.phantom.draw import Phantom, draw_phantom, draw_training_phantom
from trauma_api.phantom.labels import BLOOD_LABELS, PERITONEAL_LABELS, Label
from trauma_api.phantom.scenarios import SCENARIOS
from trauma_api.phantom.truth import TRUTH_FILE
from write_untrained_checkpoints import IMAGE_PIXELS, PATCH_PIXELS, READER_IMAGE_PIXELS, image_processor

HELD_OUT_FROM = 100_000
GROUPS: tuple[tuple[Label, ...], ...] = (
    (Label.LIVER,),
    (Label.SPLEEN,),
    (Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY),
    (Label.BOWEL, Label.STOMACH),
    (Label.AORTA, Label.VEIN, Label.VESSEL),
    (Label.BONE,),
    (Label.LUNG,),
    (Label.BLADDER, Label.GALLBLADDER, Label.CYST, Label.ASCITES, Label.OLD_HEMATOMA),
    (Label.CONTUSION, Label.INFARCT, Label.LACERATION, Label.SUBCAPSULAR),
    PERITONEAL_LABELS,
    (Label.RETROPERITONEAL, Label.PERIRENAL),
    (Label.EXTRAVASATION,),
    (Label.FREE_AIR, Label.INJURED_BOWEL),
)
_PATCHES = IMAGE_PIXELS // PATCH_PIXELS
"""Along each edge: triage's, each of which covers 2 x 2 of the reader's."""
_MARGIN_PIXELS = 8
_SLICES_AT_ONCE = 16


def processed_rgb(stack: CTVolume, processor: Any) -> NDArray[np.uint8]:
    """Each slice as the processor hands it to the tower, before normalisation: uint8 (slices, 224, 224, 3)."""
    result = np.empty((stack.slice_count, READER_IMAGE_PIXELS, READER_IMAGE_PIXELS, 3), np.uint8)
    for start in range(0, len(result), _SLICES_AT_ONCE):
        stop = min(start + _SLICES_AT_ONCE, len(result))
        squares = [model_rgb(stack, index) for index in range(start, stop)]
        pixels = processor(images=squares, return_tensors="pt", do_rescale=False, do_normalize=False)["pixel_values"]
        result[start:stop] = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return result


def patch_shares(labels_zyx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How much of each patch of the padded square is of each group, uint8 (slices, 16, 16, groups), 255 for all."""
    side = max(labels_zyx.shape[1:])
    row, column = (_patch_of(count, side) for count in labels_zyx.shape[1:])
    patch = row[:, None] * _PATCHES + column
    group_of = np.full(256, len(GROUPS), np.int64)
    for group, labels in enumerate(GROUPS):
        group_of[list(labels)] = group
    pixels = np.bincount(_patch_of(side, side), minlength=_PATCHES)
    area = (pixels[:, None] * pixels)[..., None]
    width = len(GROUPS) + 1
    shares = np.empty((len(labels_zyx), _PATCHES, _PATCHES, len(GROUPS)), np.uint8)
    for index, plane in enumerate(labels_zyx):
        counts = np.bincount((patch * width + group_of[plane]).ravel(), minlength=_PATCHES**2 * width)
        shares[index] = np.rint(255 * counts.reshape(_PATCHES, _PATCHES, width)[..., :-1] / area)
    return shares


def _patch_of(count: int, side: int) -> NDArray[np.int64]:
    """The patch that each of ``count`` rows or columns falls into when they lie in the middle of ``side``."""
    return np.asarray((np.arange(count) + (side - count) // 2) * _PATCHES // side, np.int64)


def stored_hu(voxels_zyx_hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """HU in steps of 2 from -200 to 310."""
    return np.rint((np.clip(voxels_zyx_hu, -200, 310) + 200) / 2).astype(np.uint8)


def body_box(labels_zyx: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns of everything but air and the table, with a margin."""
    body = (labels_zyx != Label.AIR) & (labels_zyx != Label.TABLE)
    rows, columns = np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1)))
    return (
        slice(max(int(rows[0]) - _MARGIN_PIXELS, 0), int(rows[-1]) + _MARGIN_PIXELS + 1),
        slice(max(int(columns[0]) - _MARGIN_PIXELS, 0), int(columns[-1]) + _MARGIN_PIXELS + 1),
    )


def on_segmenter_pixels(phantom: Phantom) -> Phantom:
    """A phantom of full size on the segmenter's pixels, as near as whole pixels come to that.

    HU as `trauma_api.engines.unet.segmenter_input` resamples them. Of blood each slice keeps as much as it has, in the
    pixels that hold most of it; any other label is that of the nearest pixel.
    """
    hu = np.stack([_resampled(plane, phantom.spacing_zyx_mm) for plane in phantom.voxels_zyx_hu])
    slices, rows, columns = hu.shape
    _, from_rows, from_columns = phantom.labels_zyx.shape
    nearest = np.ix_(
        *(
            ((np.arange(to) + 0.5) * count / to).astype(int)
            for to, count in ((rows, from_rows), (columns, from_columns))
        )
    )
    labels = np.empty((slices, rows, columns), np.uint8)
    for index, plane in enumerate(phantom.labels_zyx):
        labels[index] = plane[nearest]
        bloody = plane >= BLOOD_LABELS[0]
        if bloody.any():
            labels[index] = _with_blood(plane, _resampled(bloody, phantom.spacing_zyx_mm), nearest)
    thickness, row_mm, column_mm = phantom.spacing_zyx_mm
    spacing = (thickness, row_mm * from_rows / rows, column_mm * from_columns / columns)
    truth = phantom.truth.model_copy(update={"spacing_zyx_mm": spacing})
    return Phantom(np.rint(hu).astype(np.int16), labels, spacing, truth)


def _resampled(plane: NDArray[Any], spacing_zyx_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    images = torch.from_numpy(plane.astype(np.float32))[None, None]
    resampled: NDArray[np.float32] = to_pixel_spacing(images, spacing_zyx_mm[1:], PIXEL_MM)[0, 0].numpy()
    return resampled


def _with_blood(
    labels: NDArray[np.uint8], shares: NDArray[np.float32], nearest: tuple[NDArray[np.intp], ...]
) -> NDArray[np.uint8]:
    """One slice's labels on the pixels ``nearest``, of which blood has the given shares."""
    bloody = labels >= BLOOD_LABELS[0]
    whole_pixels = max(round(float(shares.sum())), 1)
    filled = shares >= np.partition(shares, -whole_pixels, axis=None)[-whole_pixels]
    # as wide as the largest pixel is in the smaller ones
    blood = ndimage.maximum_filter(np.where(bloody, labels, 0), 5)[nearest]
    tissue = ndimage.maximum_filter(np.where(bloody, 0, labels), 5)[nearest]
    plain = labels[nearest]
    return np.where(filled, np.where(plain >= BLOOD_LABELS[0], plain, blood), np.where(bloody[nearest], tissue, plain))


def write_phantom_arrays(seed: int, scenario: str, folder: Path, *, full_size: bool) -> None:
    """Draw one phantom and write its folder, whole or not at all."""
    torch.set_num_threads(1)
    drawn = draw_phantom(seed, scenario) if full_size else draw_training_phantom(seed, scenario)
    stack = CTVolume(drawn.voxels_zyx_hu, None)
    patches = patch_shares(drawn.labels_zyx[:, *stack.trunk_box])
    phantom = on_segmenter_pixels(drawn) if full_size else drawn
    rows, columns = body_box(phantom.labels_zyx)
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.save(unfinished / "hu_u8.npy", stored_hu(np.ascontiguousarray(phantom.voxels_zyx_hu[:, rows, columns])))
    np.save(unfinished / "labels.npy", np.ascontiguousarray(phantom.labels_zyx[:, rows, columns]))
    np.save(unfinished / "rgb.npy", processed_rgb(stack, image_processor(SiglipImageProcessor, READER_IMAGE_PIXELS)))
    np.save(unfinished / "patches.npy", patches)
    (unfinished / TRUTH_FILE).write_text(phantom.truth.model_dump_json() + "\n", encoding="utf-8")
    unfinished.rename(folder)


def main() -> None:
    """Draw what is missing of the seeds of the command line."""
    parser = argparse.ArgumentParser(description="Draws the training set of phantoms.")
    parser.add_argument("--out", type=Path, default=Path("build/phantom_set"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 1200), metavar=("FIRST", "END"))
    parser.add_argument("--scenario", default="random", choices=sorted(SCENARIOS))
    parser.add_argument("--full-size", action="store_true", help="drawn as a scanner shows them, then resampled")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.seeds[1] > HELD_OUT_FROM:
        parser.error(f"seeds from {HELD_OUT_FROM} are held out")
    folders = {seed: arguments.out / f"{seed:06d}" for seed in range(*arguments.seeds)}
    missing = {seed: folder for seed, folder in folders.items() if not folder.exists()}
    print(f"{len(folders) - len(missing)} of {len(folders)} phantoms are there", flush=True)
    began = time.monotonic()
    # spawned, as a fork of a process that has run torch may hang
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        work = [
            pool.submit(write_phantom_arrays, seed, arguments.scenario, folder, full_size=arguments.full_size)
            for seed, folder in missing.items()
        ]
        for done, drawn in enumerate(as_completed(work), 1):
            drawn.result()
            if done % 20 == 0 or done == len(work):
                seconds = (time.monotonic() - began) / done
                print(f"{done} of {len(work)} drawn, {seconds:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
