"""The three engines, loaded from untrained checkpoints."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model

from trauma_api.engines.base import ImageOrText, JsonForm, Turn
from trauma_api.engines.device import limit_threads
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.engines.unet import UNetSegmenter

STATEMENTS = (
    "CT slice of the abdomen with active bleeding: contrast leaking from a vessel",
    "CT slice of the abdomen with blood or free fluid around the organs",
    "CT slice of a normal abdomen without injury",
)
FORM = JsonForm(
    choices={
        "liver": ("none", "low_grade", "high_grade", "not_assessed"),
        "active_extravasation": ("absent", "present", "not_assessed"),
        "severity": ("none", "mild", "moderate", "severe", "critical"),
    },
    free_schema={
        "properties": {
            "bleeding_description": {"type": "string", "pattern": r"^[A-Za-z ,;()/-]{0,80}$"},
            "differentials": {
                "type": "array",
                "items": {"type": "string", "pattern": r"^[A-Za-z -]{1,40}$"},
                "maxItems": 3,
            },
        }
    },
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from more, and lose much where other processes want the cores."""
    before = torch.get_num_threads()
    limit_threads(1)
    yield
    limit_threads(before)


@pytest.fixture(scope="session")
def triage(untrained_checkpoints: Path) -> SiglipTriage:
    return SiglipTriage.load(str(untrained_checkpoints / "triage"), STATEMENTS, device="cpu")


@pytest.fixture(scope="session")
def segmenter(untrained_checkpoints: Path) -> UNetSegmenter:
    return UNetSegmenter.load(str(untrained_checkpoints / "segmenter"), device="cpu")


@pytest.fixture(scope="session")
def reader(untrained_checkpoints: Path) -> GemmaReader:
    return GemmaReader.load(str(untrained_checkpoints / "reader"), device="cpu")


def make_picture(seed: int) -> NDArray[np.uint8]:
    """Blocks of random colour, (112, 112, 3): unlike noise, they stay different when they are resized."""
    blocks = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


def make_reading(*seeds: int, query: str = "Answer with the JSON object alone.") -> tuple[Turn, ...]:
    """Instruction, slices, query, as the service asks."""
    parts: list[ImageOrText] = ["You are reading slices of one abdominal trauma CT."]
    for number, seed in enumerate(seeds, start=1):
        parts += [make_picture(seed), f"SLICE {number}"]
    return Turn("system", ("You are a trauma radiologist.",)), Turn("user", (*parts, query))


@pytest.fixture(scope="session")
def picture() -> Callable[[int], NDArray[np.uint8]]:
    return make_picture


@pytest.fixture(scope="session")
def reading() -> Callable[..., tuple[Turn, ...]]:
    return make_reading


@pytest.fixture(scope="session")
def form() -> JsonForm:
    return FORM


@pytest.fixture(scope="session")
def statements() -> tuple[str, ...]:
    return STATEMENTS


@pytest.fixture(scope="session")
def adapter(untrained_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes every attention layer."""
    folder = tmp_path_factory.mktemp("adapter")
    base = GemmaReader.load(str(untrained_checkpoints / "reader"), device="cpu")._model
    torch.manual_seed(3)
    config = LoraConfig(
        r=4, lora_alpha=64, target_modules=r".*language_model.*(q_proj|v_proj)", init_lora_weights=False
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        get_peft_model(base, config).save_pretrained(folder)
    return folder
