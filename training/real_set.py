"""Writes the real part of the segmenter's training set: injury inserted into varied copies of a real CT.

    python training/real_set.py --data ../shared/data/ct --background nonc_abdomen_pelvis_3mm --seeds 0 200

    python training/real_set.py --data ../shared/data/ct --unlabelled chest_to_upper_abdomen_100slices --seeds 0 40

Folders are ``{out}/{background}-{seed:06d}`` with ``hu_u8.npy`` (HU = value * 2 - 200) and ``labels.npy``, on the
segmenter's pixels, cropped to the body; those that are there are left alone. One copy in four has no injury, and a CT
without an organ label map gets none. A CT that must stay unseen for measuring must not be named here.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from real_background import Background, body_box, enhanced, load_background, load_unlabelled, varied
from segmenter_data import PIXEL_MM
from trauma_api.phantom.insertion import RANDOM_INJURED, insert_injury

_CLEAN_SHARE = 0.25
_UNSEEN = ("enhanced_upper_abdomen_j2k", "liver_dome_3slices")


def stored(voxels_zyx_hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """HU in steps of 2 from -200 to 310."""
    return np.asarray(np.clip((voxels_zyx_hu.astype(np.int32) + 200) // 2, 0, 255), np.uint8)


def write_case(background: Background, seed: int, folder: Path, contrast_share: float) -> None:
    """Vary, insert and write one case."""
    variation, kind, contrast = np.random.default_rng([seed, 4]).spawn(3)
    copy = varied(background, variation, PIXEL_MM)
    if contrast.random() < contrast_share:
        copy = enhanced(copy, contrast)
    scenario = "clean" if kind.random() < _CLEAN_SHARE else RANDOM_INJURED
    case = insert_injury(copy.voxels_zyx_hu, copy.organs_zyx, copy.spacing_zyx_mm, seed, scenario, blur_mm=copy.blur_mm)
    _write(case.voxels_zyx_hu, case.labels_zyx, body_box(copy.voxels_zyx_hu), folder)


def write_unlabelled(background: Background, seed: int, folder: Path) -> None:
    """Vary and write one copy of a CT as it is, all its slices without blood."""
    copy = varied(background, np.random.default_rng([seed, 4]), PIXEL_MM)
    _write(copy.voxels_zyx_hu, copy.organs_zyx, body_box(copy.voxels_zyx_hu), folder)


def _write(
    voxels_zyx_hu: NDArray[np.int16], labels_zyx: NDArray[np.uint8], box: tuple[slice, slice], folder: Path
) -> None:
    """The whole folder or none."""
    rows, columns = box
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.save(unfinished / "hu_u8.npy", np.ascontiguousarray(stored(voxels_zyx_hu)[:, rows, columns]))
    np.save(unfinished / "labels.npy", np.ascontiguousarray(labels_zyx[:, rows, columns]))
    unfinished.rename(folder)


def main() -> None:
    """Write the cases of the command line."""
    parser = argparse.ArgumentParser(description="Inserts injury into real CTs for the segmenter's training.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of CT folders")
    parser.add_argument("--background", action="append", default=[], help="a CT folder's name; may be repeated")
    parser.add_argument("--unlabelled", action="append", default=[], help="the same, of a CT to learn from as it is")
    parser.add_argument("--out", type=Path, default=Path("build/real_set"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 200), metavar=("FIRST", "END"))
    parser.add_argument("--contrast-share", type=float, default=0.0, help="copies that are given contrast")
    arguments = parser.parse_args()
    for name in (*arguments.background, *arguments.unlabelled):
        if name in _UNSEEN:
            parser.error(f"{name} is for measuring, not for training")
        labelled = name in arguments.background
        background = (load_background if labelled else load_unlabelled)(arguments.data / name)
        for seed in range(*arguments.seeds):
            folder = arguments.out / f"{name}-{seed:06d}"
            if folder.exists():
                continue
            if labelled:
                write_case(background, seed, folder, arguments.contrast_share)
            else:
                write_unlabelled(background, seed, folder)
            print(folder.name, flush=True)


if __name__ == "__main__":
    main()
