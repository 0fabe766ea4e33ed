"""The state of a training on disk, written at once, so that a run goes on after a stop at any moment.

state.safetensors    tensors by name, those of the optimizer as optimizer.{index}.{name}
state.json           how far the run is
log.jsonl            what it has printed
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS_FILE, PROGRESS_FILE, LOG_FILE = "state.safetensors", "state.json", "log.jsonl"


def save_state(
    folder: Path, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Replace what the folder held."""
    everything = {name: value.contiguous() for name, value in tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        everything |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in state.items()}
    new, text = folder / "new", json.dumps(progress)
    save_file(everything, new, metadata={"progress": text})
    new.replace(folder / WEIGHTS_FILE)
    new.write_text(text + "\n")
    new.replace(folder / PROGRESS_FILE)


def load_state(folder: Path, optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and progress that `save_state` wrote, the optimizer's state put back. Raises FileNotFoundError."""
    tensors = load_file(folder / WEIGHTS_FILE)
    whole = optimizer.state_dict()
    for name, value in under("optimizer.", tensors).items():
        index, key = name.split(".")
        whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
    return tensors, json.loads((folder / PROGRESS_FILE).read_text())


def log_line(folder: Path, entry: dict[str, Any]) -> None:
    """Print a line, and add it to the folder's log."""
    line = json.dumps(entry)
    print(line, flush=True)
    with (folder / LOG_FILE).open("a") as log:
        log.write(line + "\n")


def named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the prefix before each name."""
    return {prefix + name: value.detach() for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
