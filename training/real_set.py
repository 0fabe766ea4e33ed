"""Writes the real part of the segmenter's training set: injury inserted into varied copies of a real CT.

    python training/real_set.py --data ../shared/data/ct --background nonc_abdomen_pelvis_3mm --seeds 0 200

Folders are ``{out}/{background}-{seed:06d}`` with ``hu_u8.npy`` (HU = value * 2 - 200), ``labels.npy`` and
``truth.json``, on 1.5 mm pixels, cropped to the body; those that are there are left alone. One copy in four has no
injury. A CT that the results are measured on must not be named here.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from real_background import Background, body_box, enhanced, load_background, varied
from trauma_api.phantom.insertion import RANDOM_INJURED, insert_injury
from trauma_api.phantom.truth import TRUTH_FILE

PIXEL_MM = 1.5
_CLEAN_SHARE = 0.25
_MEASURED_ON = ("enhanced_upper_abdomen_j2k", "chest_to_upper_abdomen_100slices", "liver_dome_3slices")


def stored(voxels_zyx_hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """HU in steps of 2 from -200 to 310."""
    return np.asarray(np.clip((voxels_zyx_hu.astype(np.int32) + 200) // 2, 0, 255), np.uint8)


def write_case(background: Background, seed: int, folder: Path, contrast_share: float) -> float:
    """Insert and write one case whole or not at all; its mL of blood."""
    variation, kind, contrast = np.random.default_rng([seed, 4]).spawn(3)
    copy = varied(background, variation, PIXEL_MM)
    if contrast.random() < contrast_share:
        copy = enhanced(copy, contrast)
    scenario = "clean" if kind.random() < _CLEAN_SHARE else RANDOM_INJURED
    case = insert_injury(copy.voxels_zyx_hu, copy.organs_zyx, copy.spacing_zyx_mm, seed, scenario, blur_mm=copy.blur_mm)
    rows, columns = body_box(copy.voxels_zyx_hu)
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.save(unfinished / "hu_u8.npy", np.ascontiguousarray(stored(case.voxels_zyx_hu)[:, rows, columns]))
    np.save(unfinished / "labels.npy", np.ascontiguousarray(case.labels_zyx[:, rows, columns]))
    (unfinished / TRUTH_FILE).write_text(case.truth.model_dump_json() + "\n", encoding="utf-8")
    unfinished.rename(folder)
    return case.truth.total_ml


def main() -> None:
    """Write the cases of the command line."""
    parser = argparse.ArgumentParser(description="Inserts injury into real CTs for the segmenter's training.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of CT folders")
    parser.add_argument("--background", action="append", required=True, help="a CT folder's name; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("build/real_set"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 200), metavar=("FIRST", "END"))
    parser.add_argument("--contrast-share", type=float, default=0.0, help="copies that are given contrast")
    arguments = parser.parse_args()
    for name in arguments.background:
        if name in _MEASURED_ON:
            parser.error(f"{name} is for measuring, not for training")
        background = load_background(arguments.data / name)
        for seed in range(*arguments.seeds):
            folder = arguments.out / f"{name}-{seed:06d}"
            if not folder.exists():
                print(
                    f"{folder.name}: {write_case(background, seed, folder, arguments.contrast_share):.1f} mL",
                    flush=True,
                )


if __name__ == "__main__":
    main()
