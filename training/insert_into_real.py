"""Writes evaluation cases: injury inserted into a real CT, as DICOM with truth, for ``trauma-api evaluate``.

    python training/insert_into_real.py --data ../shared/data/ct --background enhanced_upper_abdomen_j2k \
        --seeds 100000 100020 --out build/real_eval

The CT keeps its grid and its voxels wherever nothing is inserted. With ``--cut-organs``
organs that an end of the volume cuts are injured too; their grade in the truth is then that of the planned injury.
``--scenario clean`` writes the CT as it is.
"""

import argparse
from pathlib import Path

from real_background import load_background
from trauma_api.phantom.insertion import RANDOM_INJURED, insert_injury
from trauma_api.phantom.series import write_phantom
from trauma_api.phantom.truth import TRUTH_FILE


def main() -> None:
    """Write the cases of the command line; those that are there are left alone."""
    parser = argparse.ArgumentParser(description="Inserts injury into a real CT, to measure with.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of CT folders")
    parser.add_argument("--background", required=True, help="a CT folder's name")
    parser.add_argument("--out", type=Path, default=Path("build/real_eval"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(100_000, 100_020), metavar=("FIRST", "END"))
    parser.add_argument("--scenario", default=RANDOM_INJURED)
    parser.add_argument("--cut-organs", action="store_true")
    arguments = parser.parse_args()
    ct = load_background(arguments.data / arguments.background)
    for seed in range(*arguments.seeds):
        folder = arguments.out / f"{arguments.background}-{seed:06d}"
        if (folder / TRUTH_FILE).exists():
            continue
        case = insert_injury(
            ct.voxels_zyx_hu,
            ct.organs_zyx,
            ct.spacing_zyx_mm,
            seed,
            arguments.scenario,
            cut_organs=arguments.cut_organs,
            blur_mm=ct.blur_mm,
        )
        write_phantom(case, folder)
        print(f"{folder.name}: {case.truth.total_ml:.1f} mL", flush=True)


if __name__ == "__main__":
    main()
