"""Averages the weights of two segmenters, the second of which began with the first.

    python training/average_segmenters.py FIRST SECOND --out build/segmenter_average

What the second learnt anew is kept in part, and what it forgot is won back in part. Threshold and regions are those of
the second until `tune_segmenter.py` has chosen others.
"""

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file

from trauma_api.engines.checkpoints import METADATA_FILE, Metadata
from write_untrained_checkpoints import write_metadata

WEIGHTS_FILE = "model.safetensors"


def average(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two checkpoints, counters as the second has them. Raises KeyError for other architectures."""
    old, new = (load_file(folder / WEIGHTS_FILE) for folder in (first, second))
    mean = {
        name: ((old[name].float() + value.float()) / 2).to(value.dtype) if value.is_floating_point() else value
        for name, value in new.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in mean.items()}, out / WEIGHTS_FILE)
    (out / WEIGHTS_FILE).chmod(0o644)
    stated = [Metadata.model_validate_json((folder / METADATA_FILE).read_bytes()) for folder in (first, second)]
    trained_on = f"mean of two trainings, on {stated[0].trained_on}, then on {stated[1].trained_on}"
    write_metadata(out, stated[1].model_copy(update={"trained_on": trained_on}))


def main() -> None:
    """Average the checkpoints of the command line."""
    parser = argparse.ArgumentParser(description="Averages two segmenters.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    average(arguments.first, arguments.second, arguments.out)


if __name__ == "__main__":
    main()
