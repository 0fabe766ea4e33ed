"""Averages the weights of two checkpoints of one role, the second of which began with the first.

    python training/average_checkpoints.py FIRST SECOND --out build/segmenter_average
    python training/average_checkpoints.py FIRST SECOND --out build/reader_average --temperatures 2.09 2.5 1.25
    python training/average_checkpoints.py FIRST SECOND --out build/reader_average --keep-tower

What the second learnt anew is kept in part, and what it forgot is won back in part. All else is that of the second; the
calibration of a triage model and the threshold of a segmenter have to be chosen anew.

A reader's logits are divided by a temperature at its export. ``--temperatures`` names those of the two, which are
undone before the mean, and that of the result. ``--keep-tower`` leaves a reader's vision tower as the second has it,
for one that was trained on another tower than the first: no reader has learnt on the mean of two.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reader_run import cooled
from trauma_api.engines.checkpoints import METADATA_FILE, Metadata
from write_untrained_checkpoints import write_metadata

WEIGHTS_FILE = "model.safetensors"
FORMAT = {"format": "pt"}
LAST_NORM = "language_model.model.norm.weight"
TOWER = "vision_tower."


def average(
    first: Path, second: Path, out: Path, temperatures: Sequence[float] | None, *, keep_tower: bool = False
) -> None:
    """Write the mean of two checkpoints, counters as the second has them. Raises KeyError for other architectures."""
    old, new = (load_file(folder / WEIGHTS_FILE) for folder in (first, second))
    types = {name: value.dtype for name, value in new.items()}
    if temperatures is not None:
        for weights, temperature in zip((old, new), temperatures[:2], strict=True):
            weights[LAST_NORM] = cooled(weights[LAST_NORM].float(), 1 / temperature)
    mean = {
        name: value if keep_tower and name.startswith(TOWER) else _mean(old[name], value) for name, value in new.items()
    }
    if temperatures is not None:
        mean[LAST_NORM] = cooled(mean[LAST_NORM], temperatures[2])
    shutil.copytree(second, out, dirs_exist_ok=True)
    save_file({name: value.to(types[name]).contiguous() for name, value in mean.items()}, out / WEIGHTS_FILE, FORMAT)
    (out / WEIGHTS_FILE).chmod(0o644)
    stated = [Metadata.model_validate_json((folder / METADATA_FILE).read_bytes()) for folder in (first, second)]
    trained_on = f"mean of two trainings, on {stated[0].trained_on}, then on {stated[1].trained_on}"
    write_metadata(out, stated[1].model_copy(update={"trained_on": trained_on, "metrics": {}}))


def _mean(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    return (old.float() + new.float()) / 2 if new.is_floating_point() else new


def main() -> None:
    """Average the checkpoints of the command line."""
    parser = argparse.ArgumentParser(description="Averages two checkpoints of one role.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--temperatures", type=float, nargs=3, metavar=("FIRST", "SECOND", "RESULT"))
    parser.add_argument("--keep-tower", action="store_true", help="take the vision tower of the second")
    arguments = parser.parse_args()
    average(
        arguments.first,
        arguments.second,
        arguments.out,
        arguments.temperatures,
        keep_tower=arguments.keep_tower,
    )


if __name__ == "__main__":
    main()
