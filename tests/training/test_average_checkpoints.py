"""The mean of two readers is loadable as a checkpoint, and its tower is one that a reader has learnt on."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from average_checkpoints import FORMAT, TOWER, WEIGHTS_FILE, average
from tests.support.checkpoints import without_fingerprint
from trauma_api.engines.checkpoints import open_checkpoint
from trauma_api.settings import PACKAGED_CHECKPOINTS

READER = PACKAGED_CHECKPOINTS / "reader"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The shipped reader, with one added to each of its weights."""
    folder = without_fingerprint(Path(shutil.copytree(READER, tmp_path / "second")))
    weights = load_file(folder / WEIGHTS_FILE)
    save_file({name: value + 1 for name, value in weights.items()}, folder / WEIGHTS_FILE, FORMAT)
    return folder


@pytest.mark.parametrize(("keep_tower", "added"), [(False, 0.5), (True, 1.0)])
def test_tower_is_the_mean_or_that_of_the_second(
    second: Path, tmp_path: Path, *, keep_tower: bool, added: float
) -> None:
    out = tmp_path / "mean"

    average(READER, second, out, None, keep_tower=keep_tower)

    open_checkpoint(str(out), "reader")
    first, mean = load_file(READER / WEIGHTS_FILE), load_file(out / WEIGHTS_FILE)
    for name, value in first.items():
        expected = value.float() + (added if name.startswith(TOWER) else 0.5)
        torch.testing.assert_close(mean[name].float(), expected, atol=0.01, rtol=0.01)
