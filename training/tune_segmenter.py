"""Measures a segmenter on whole phantoms at many thresholds, cores and smallest regions, and writes the chosen ones.

    OMP_NUM_THREADS=1 python training/tune_segmenter.py --checkpoint src/trauma_api/checkpoints/segmenter
    python training/tune_segmenter.py --checkpoint src/trauma_api/checkpoints/segmenter \
        --write 0.4 0.9 0.5 2.5

The first prints a table and where false blood lies; the second puts into trauma.json a threshold, and how much blood a
region, and the largest one, must hold at which probability. The phantoms have seeds from 90000, which neither training
nor the evaluation sees, and are drawn at full size: what is chosen on the network's pixels does not hold on a
scanner's. The network runs through `UNetSegmenter`, as in the service, and regions are left out as `without_noise` does
it. Probabilities are kept by the digest of the weights, so that a second look costs little.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.engines.checkpoints import METADATA_FILE, Metadata
from trauma_api.engines.unet import UNetSegmenter
from trauma_api.evaluation.metrics import icc_2_1
from trauma_api.imaging.measure import NoiseRule, blood_mask
from trauma_api.phantom.draw import Phantom, draw_phantom
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.services.volume import INTERVAL_SHARE
from write_untrained_checkpoints import write_metadata

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5)
CORES = (0.0, 0.9, 0.97, 0.99)
SMALLEST_ML = (0.0, 0.25, 0.5, 1.0, 2.0)
LARGEST_ML = (0.0, 1.5, 2.0, 2.5, 3.0)
MEASURED_FROM_ML = 20.0
CLEAN_UP_TO_ML = 3.0


class Looked(NamedTuple):
    """One phantom at one threshold: mL of truth, and of each region found; how much of that is true, and is sure.

    ``core_ml`` is what each region holds at each of `CORES`, (cores, regions).
    """

    truth_ml: float
    found_ml: NDArray[np.float64]
    true_ml: NDArray[np.float64]
    core_ml: NDArray[np.float64]

    def kept(self, rule: NoiseRule) -> tuple[float, float]:
        """Found and true mL without the regions that the rule calls noise."""
        kept = rule.keeps(self.core_ml[CORES.index(rule.core_probability)])
        return float(self.found_ml[kept].sum()), float(self.true_ml[kept].sum())


def probability_of(segmenter: UNetSegmenter, phantom: Phantom, keep: Path) -> NDArray[np.uint8]:
    """Probability of a whole phantom as the service keeps it, 0..255 for 0..1.

    From the folder ``keep`` when these weights have seen the phantom before.
    """
    file = keep / segmenter.info.sha256[:16] / f"{phantom.truth.seed:06d}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        hu = phantom.voxels_zyx_hu
        found = segmenter.probabilities(hu, phantom.spacing_zyx_mm, 0, len(hu))
        np.savez_compressed(file, np.rint(found * 255).astype(np.uint8))
    return np.asarray(np.load(file)["arr_0"])


def look(probability: NDArray[np.uint8], truth: NDArray[np.bool_], voxel_ml: float, threshold: float) -> Looked:
    """The regions of `without_noise`, and what they hold at the threshold."""
    halo = blood_mask(probability, threshold * (1 - INTERVAL_SHARE))
    regions, count = ndimage.label(halo, structure=np.ones((3, 3, 3), bool))
    found = blood_mask(probability, threshold)

    def by_region(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        return voxel_ml * np.bincount(regions[inside], minlength=count + 1).astype(np.float64)

    cores = np.stack([by_region(blood_mask(probability, max(core, threshold))) for core in CORES])
    return Looked(float(truth.sum()) * voxel_ml, by_region(found), by_region(found & truth), cores)


def row(looked: list[Looked], rule: NoiseRule) -> str:
    """What the phantoms give with the regions that the rule keeps."""
    pairs = [(one.truth_ml, *one.kept(rule)) for one in looked]
    truth, found, right = np.array(pairs, np.float64).T
    bleeding, clean = truth >= MEASURED_FROM_ML, truth == 0
    dice = 2 * right[bleeding] / (truth + found)[bleeding]
    error = (found - truth)[bleeding] / truth[bleeding]
    bias = 100 * (found - truth)[bleeding].sum() / truth[bleeding].sum()
    false_ml = found[clean]
    icc = float(icc_2_1(np.stack([truth, found], axis=1), np.ones((1, len(truth))))[0])
    return (
        f"{dice.mean():6.3f} {np.median(dice):6.3f} {icc:6.3f} {bias:+7.1f} {100 * np.median(abs(error)):7.1f}"
        f" {false_ml.mean():9.2f} {false_ml.max():7.1f} {(false_ml <= CLEAN_UP_TO_ML).mean():9.2f}"
    )


def false_blood(probability: NDArray[np.uint8], labels: NDArray[np.uint8], threshold: float) -> NDArray[np.int64]:
    """Voxels called blood that are not, by label, (256,)."""
    called = blood_mask(probability, threshold) & (labels < BLOOD_LABELS[0])
    return np.bincount(labels[called], minlength=256)


def measure(segmenter: UNetSegmenter, seeds: range, keep: Path) -> None:
    """Print the table, and in what the false blood lies at the checkpoint's own threshold."""
    looked: dict[float, list[Looked]] = {threshold: [] for threshold in THRESHOLDS}
    false_ml = np.zeros(256)
    for seed in seeds:
        phantom = draw_phantom(seed, "random")
        labels, voxel_ml = phantom.labels_zyx, float(np.prod(phantom.spacing_zyx_mm)) / 1000
        probability = probability_of(segmenter, phantom, keep)
        for threshold in THRESHOLDS:
            looked[threshold].append(look(probability, labels >= BLOOD_LABELS[0], voxel_ml, threshold))
        false_ml += false_blood(probability, labels, segmenter.threshold) * voxel_ml / len(seeds)
    truth_ml = [one.truth_ml for one in looked[THRESHOLDS[0]]]
    bleeding, clean = sum(ml >= MEASURED_FROM_ML for ml in truth_ml), truth_ml.count(0.0)
    print(f"{len(seeds)} phantoms: {bleeding} with {MEASURED_FROM_ML:.0f} mL or more, {clean} without blood")
    print(
        "threshold core smallest largest   Dice median    ICC  bias % error %  clean mL     max "
        f"  <= {CLEAN_UP_TO_ML:.0f} mL"
    )
    for (threshold, ones), core, smallest_ml, largest_ml in product(looked.items(), CORES, SMALLEST_ML, LARGEST_ML):
        found = row(ones, NoiseRule(core, smallest_ml, largest_ml))
        print(f"{threshold:9.2f} {core:4.2f} {smallest_ml:8.2f} {largest_ml:7.1f} {found}")
    print(f"false mL a phantom at {segmenter.threshold}:")
    for label in sorted(Label, key=lambda label: -false_ml[label])[:12]:
        print(f"  {label.name.lower():16} {false_ml[label]:6.2f}")


def write(folder: Path, threshold: float, rule: NoiseRule) -> None:
    """Put the choice into trauma.json."""
    metadata = Metadata.model_validate_json((folder / METADATA_FILE).read_bytes())
    write_metadata(folder, Metadata.model_validate({**metadata.model_dump(), "threshold": threshold, "noise": rule}))


def main() -> None:
    """Measure, or write a choice."""
    parser = argparse.ArgumentParser(description="Chooses the segmenter's threshold and smallest region.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs=2, default=(90_000, 90_080), metavar=("FIRST", "END"))
    parser.add_argument("--keep", type=Path, default=Path("build/runs/segmenter_probabilities"))
    parser.add_argument("--write", type=float, nargs=4, metavar=("THRESHOLD", "CORE", "SMALLEST_ML", "LARGEST_ML"))
    arguments = parser.parse_args()
    if arguments.write:
        threshold, *rule = arguments.write
        write(arguments.checkpoint, threshold, NoiseRule(*rule))
        return
    torch.set_num_threads(1)
    segmenter = UNetSegmenter.load(str(arguments.checkpoint), device="cpu")
    measure(segmenter, range(*arguments.seeds), arguments.keep)


if __name__ == "__main__":
    main()
