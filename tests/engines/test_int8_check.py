"""Triage in 8 bits: taken where a checkpoint keeps its scores, refused where it does not."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tests.support.checkpoints import without_fingerprint
from transformers import SiglipModel

from trauma_api.container import StartError, load_engines
from trauma_api.engines.base import CheckpointError, SlicePixels, TriageScores
from trauma_api.engines.int8_check import require_same_scores
from trauma_api.engines.siglip import SiglipTriage, _in_8_bits
from trauma_api.settings import PACKAGED_CHECKPOINTS, Settings


class FixedTriage:
    """Has these embeddings and this suspicion for all slices, whatever they are."""

    def __init__(self, angle: float = 0.0, suspicion: float = 0.5) -> None:
        self._embedding, self._suspicion = (np.cos(angle), np.sin(angle)), suspicion

    def embed(self, slices: Sequence[SlicePixels]) -> NDArray[np.float32]:
        """The same for each."""
        return np.tile(np.array(self._embedding, np.float32), (len(slices), 1))

    def scores_of(self, embeddings: NDArray[np.float32]) -> TriageScores:
        """The same for each."""
        count = len(embeddings)
        return TriageScores(np.zeros((count, 2), np.float32), np.full(count, self._suspicion, np.float32))


@pytest.fixture(scope="module")
def uneven_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped triage with one weight in each row that is a hundred times as large as all others: of these, 8 bits
    keep hardly anything."""
    folder = tmp_path_factory.mktemp("uneven") / "triage"
    shutil.copytree(PACKAGED_CHECKPOINTS / "triage", folder)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name.startswith("vision_model.encoder") and weight.ndim == 2:
            weights[name] = weight.copy()
            weights[name][:, 0] = 100 * np.abs(weight).max()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return without_fingerprint(folder)


def compare(int8: FixedTriage) -> None:
    """With triage in full precision, on slices that neither looks at."""
    require_same_scores("it", FixedTriage(), int8, [np.zeros((2, 2), np.int16)] * 3)


def test_the_shipped_checkpoint_keeps_its_scores() -> None:
    assert load_engines(Settings(triage_int8=True)).triage.info.dtype == "int8"


def test_a_checkpoint_that_does_not_stops_the_start(uneven_checkpoint: Path) -> None:
    with pytest.raises(StartError, match=r"uneven.*does not keep its scores.*leave TRAUMA_TRIAGE_INT8 off"):
        load_engines(Settings(triage_checkpoint=str(uneven_checkpoint), triage_int8=True))


def test_an_accelerator_is_told_which_setting_to_leave_off(untrained_checkpoints: Path) -> None:
    folder = untrained_checkpoints / "triage"
    exact = SiglipTriage.load(str(folder), ("torn liver", "normal"), device="cpu")
    tower = SiglipModel.from_pretrained(folder).vision_model
    with pytest.raises(CheckpointError, match=r"it is not taken .* on a CPU only; leave TRAUMA_TRIAGE_INT8 off\.$"):
        _in_8_bits(exact, tower, torch.device("cuda"), "it")


def test_embeddings_that_turn_are_refused() -> None:
    compare(FixedTriage(angle=0.04))
    with pytest.raises(CheckpointError, match=r"a cosine of 0\.99875 at least"):
        compare(FixedTriage(angle=0.05))


def test_suspicion_that_moves_is_refused() -> None:
    compare(FixedTriage(suspicion=0.54))
    with pytest.raises(CheckpointError, match=r"suspicion differs by 0\.060 at most"):
        compare(FixedTriage(suspicion=0.56))


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(CheckpointError, match="nan"):
        compare(FixedTriage(angle=float("nan")))
