"""Triage: the same logits as the model's own forward pass, and the suspicion made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, SiglipModel

from trauma_api.engines.base import EngineOutOfMemoryError
from trauma_api.engines.device import cpu_prefers_bfloat16, on_device
from trauma_api.engines.siglip import SiglipTriage, suspicion_from_logits
from trauma_api.imaging.volume import CTVolume
from trauma_api.imaging.windowing import model_rgb, trunk_slice

Picture = Callable[[int], NDArray[np.uint8]]


def test_logits_are_those_of_the_whole_model(
    triage: SiglipTriage, untrained_checkpoints: Path, statements: tuple[str, ...], picture: Picture
) -> None:
    images = [picture(seed) for seed in range(11)]
    folder = untrained_checkpoints / "triage"
    model = SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(
        text=list(statements), images=images, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image.numpy()

    scores = triage.score(images)

    assert scores.logits.dtype == np.float32
    assert scores.logits.shape == (11, 3)
    spread = np.ptp(expected, axis=0).min()
    np.testing.assert_allclose(scores.logits, expected, atol=0.2 * spread if cpu_prefers_bfloat16() else 1e-4)
    assert np.ptp(scores.logits, axis=0).min() > 1e-3, "different pictures must score differently"


def test_scores_do_not_depend_on_the_batch(triage: SiglipTriage, picture: Picture) -> None:
    images = [picture(seed) for seed in range(triage.batch_size + 1)]
    together = triage.score(images).suspicion
    alone = np.concatenate([triage.score([image]).suspicion for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_ct_slices_score_as_their_pictures_do(triage: SiglipTriage) -> None:
    stack = CTVolume(np.random.default_rng(5).normal(40, 300, (3, 70, 90)).astype(np.int16), None)
    scores = triage.score([trunk_slice(stack, index) for index in range(3)])
    expected = triage.score([model_rgb(stack, index) for index in range(3)])
    np.testing.assert_array_equal(scores.logits, expected.logits)


def test_no_picture_gives_no_score(triage: SiglipTriage) -> None:
    scores = triage.score([])
    assert scores.logits.shape == (0, 3)
    assert scores.suspicion.shape == (0,)


def test_suspicion_compares_the_strongest_injury_with_normal() -> None:
    logits = np.array([[-9.0, -8.0, -8.0], [-10.0, -12.0, -9.0], [-7.0, -9.0, -9.0]], np.float32)
    plain = suspicion_from_logits(logits, scale=1.0, offset=0.0)
    # differences 0, -1 and 2
    np.testing.assert_allclose(plain, [0.5, 1 / (1 + np.e), 1 / (1 + np.exp(-2))], rtol=1e-6)
    calibrated = suspicion_from_logits(logits, scale=2.0, offset=-1.0)
    np.testing.assert_allclose(calibrated, 1 / (1 + np.exp([1.0, 3.0, -3.0])), rtol=1e-6)
    assert plain.dtype == np.float32


def test_extreme_logits_give_a_finite_suspicion() -> None:
    logits = np.array([[-500.0, 500.0], [500.0, -500.0]], np.float32)
    np.testing.assert_array_equal(suspicion_from_logits(logits, 1.0, 0.0), np.array([0.0, 1.0], np.float32))


def test_only_the_vision_tower_is_kept(triage: SiglipTriage) -> None:
    assert not any(isinstance(value, SiglipModel) for value in vars(triage).values())


def test_a_single_statement_is_refused(untrained_checkpoints: Path) -> None:
    with pytest.raises(ValueError, match="normal"):
        SiglipTriage.load(str(untrained_checkpoints / "triage"), ("CT slice of a normal abdomen",), device="cpu")


def test_full_memory_becomes_an_engine_error() -> None:
    def fill_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineOutOfMemoryError) as raised:
        on_device(fill_memory)
    assert raised.value.__context__ is None, "the torch error holds the frames and their tensors"


def test_info_states_the_provenance(triage: SiglipTriage, untrained_checkpoints: Path) -> None:
    info = triage.info
    assert (info.role, info.trained_on, info.device) == ("triage", "untrained", "cpu")
    assert info.dtype == ("bfloat16" if cpu_prefers_bfloat16() else "float32")
    assert info.checkpoint == f"{untrained_checkpoints.name}/triage"
    assert len(info.sha256) == 64
    assert info.device_memory_bytes is None
