"""Puts measured figures into a checkpoint's ``trauma.json``, with the fingerprint of the weights they belong to.

    python training/state_metrics.py src/trauma_api/checkpoints/triage slice_auroc=0.94 studies=200

Figures that were there are replaced. They are those of the model card, from ``trauma-api evaluate``.
"""

import argparse
from pathlib import Path

from trauma_api.engines.checkpoints import METADATA_FILE, Metadata
from write_untrained_checkpoints import write_metadata


def figure(text: str) -> tuple[str, float]:
    """``name=value`` taken apart. Raises ValueError."""
    name, _, value = text.partition("=")
    if not name.isidentifier():
        raise ValueError(f"{name} is no name of a figure")
    return name, float(value)


def main() -> None:
    """Replace the figures of a checkpoint by those of the command line."""
    parser = argparse.ArgumentParser(description="States measured figures in a checkpoint's metadata.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("figures", type=figure, nargs="+", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    metadata = Metadata.model_validate_json((arguments.checkpoint / METADATA_FILE).read_bytes())
    write_metadata(arguments.checkpoint, metadata.model_copy(update={"metrics": dict(arguments.figures)}))


if __name__ == "__main__":
    main()
