"""The vision tower by OpenVINO: the embeddings of transformers' tower, from several threads, and nothing sent home."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tests.support.processes import environment
from transformers import SiglipVisionConfig, SiglipVisionModel

from trauma_api.engines.openvino_tower import OpenVinoTower
from trauma_api.engines.vision_tower import TorchTower, open_tower

IMPORTED = """
import sys
def tell(event, _arguments):
    if event.startswith("socket.") or event == "os.fork":
        print(event)
sys.addaudithook(tell)
import trauma_api.engines.openvino_tower
"""


def tower_with(activation: str = "relu", **changes: int | bool) -> SiglipVisionModel:
    """A tower of odd sizes whose weights are all random, biases and norms included."""
    torch.manual_seed(4)
    sizes = {"hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = SiglipVisionConfig(**{**sizes, "image_size": 42, "patch_size": 14, "hidden_act": activation, **changes})
    tower = SiglipVisionModel(config).eval()
    for weight in tower.parameters():
        torch.nn.init.normal_(weight, mean=0.1 if weight.dim() == 1 else 0.0, std=0.2)
    return tower


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn((3, 3, 42, 42), generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, of the spread between pictures."""
    return float((found - expected).abs().max() / expected.std(dim=0).mean())


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_pytorch_tanh"])
def test_embeddings_are_those_of_transformers(activation: str, pixels: torch.Tensor) -> None:
    tower = tower_with(activation)
    expected = TorchTower(tower).embed(pixels)
    found = OpenVinoTower(tower, "float32", one_core=True).embed(pixels)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape == (3, 48)
    assert apart(found, expected) < 1e-4


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_change_little_and_something(precision: str, pixels: torch.Tensor) -> None:
    units = torch.cpu.get_capabilities()
    if precision == "bfloat16" and not (units.get("avx512_bf16") or units.get("amx_bf16")):
        pytest.skip("this CPU does not multiply in bfloat16")
    tower = tower_with()
    found = OpenVinoTower(tower, precision, one_core=True).embed(pixels)
    assert 1e-4 < apart(found, TorchTower(tower).embed(pixels)) < 0.3


def test_a_picture_does_not_depend_on_those_beside_it_nor_on_the_cores(pixels: torch.Tensor) -> None:
    tower = tower_with()
    together = OpenVinoTower(tower, "float32", one_core=False).embed(pixels)
    alone = OpenVinoTower(tower, "float32", one_core=True)
    assert apart(torch.cat([alone.embed(one[None]) for one in pixels]), together) < 1e-4


def test_threads_that_call_at_once_get_their_own_results(pixels: torch.Tensor) -> None:
    tower = OpenVinoTower(tower_with(), "float32", one_core=True)
    batches = [pixels + shift / 10 for shift in range(8)]
    expected = [tower.embed(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for found, wanted in zip(threads.map(tower.embed, batches), expected, strict=True):
                torch.testing.assert_close(found, wanted)


def test_a_cpu_takes_it_and_an_accelerator_does_not() -> None:
    tower = tower_with()
    assert isinstance(open_tower(tower, torch.device("cpu")), OpenVinoTower)
    assert open_tower(tower, torch.device("cpu"), int8=True).precision == "int8"
    assert isinstance(open_tower(tower, torch.device("cuda")), TorchTower)
    with pytest.raises(ValueError, match="8 bits on a CPU only"):
        open_tower(tower, torch.device("cuda"), int8=True)


@pytest.mark.parametrize("tower", [tower_with("silu"), tower_with(vision_use_head=False)], ids=["silu", "no head"])
def test_a_tower_that_is_not_written_down_is_refused(tower: SiglipVisionModel) -> None:
    with pytest.raises(ValueError, match=r"activation .* or no pooling head"):
        OpenVinoTower(tower, "float32", one_core=True)


def test_importing_it_tells_nobody(tmp_path: Path) -> None:
    # its telemetry keeps an identity in the home folder, and sends from a child
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED], env=environment(HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert ended.stdout == ""
    assert not (tmp_path / "intel").exists()
