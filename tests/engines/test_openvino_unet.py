"""The U-Net by OpenVINO: the logits of the library's own, in sizes of all kinds and from several threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from trauma_api.engines.base import EngineError
from trauma_api.engines.device import cpu_has_bfloat16, limit_threads
from trauma_api.engines.openvino_unet import OpenVinoUNet
from trauma_api.engines.segmentation_network import TorchUNet, open_network


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """Of two channels, with random weights, biases, and statistics of its batch normalizations."""
    torch.manual_seed(6)
    made: Any = smp.Unet("resnet34", encoder_weights=None, in_channels=2, classes=1).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.6, 1.2), (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 1.5),
            ):  # fmt: skip
                assert values is not None
                nn.init.uniform_(values, low, high)
    nn.init.constant_(made.segmentation_head[0].bias, 0.7)
    unet: nn.Module = made
    return unet


def images_of(count: int, rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.rand((count, 2, rows, columns), generator=torch.Generator().manual_seed(seed))


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, of the spread of all logits."""
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 160), (2, 160, 96)])
def test_logits_are_those_of_the_library_in_any_size(unet: nn.Module, shape: tuple[int, int, int]) -> None:
    expected = TorchUNet(unet).logits(images_of(*shape))
    found = OpenVinoUNet(unet, "float32").logits(images_of(*shape))
    assert found.dtype == torch.float32
    assert found.shape == expected.shape == (shape[0], 1, *shape[1:])
    assert apart(found, expected) < 1e-3


def test_fewer_bits_change_little_and_something(unet: nn.Module) -> None:
    if not cpu_has_bfloat16():
        pytest.skip("this CPU does not multiply in bfloat16")
    images = images_of(2, 96, 96)
    assert 1e-4 < apart(OpenVinoUNet(unet, "bfloat16").logits(images), TorchUNet(unet).logits(images)) < 0.3


def test_threads_that_call_at_once_in_sizes_of_their_own_get_their_own_results(unet: nn.Module) -> None:
    network = OpenVinoUNet(unet, "float32")
    batches = [images_of(1 + seed % 2, 32 * (1 + seed % 3), 64, seed) for seed in range(8)]
    expected = [network.logits(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for found, wanted in zip(threads.map(network.logits, batches), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_it_is_the_same_however_many_threads_torch_has(unet: nn.Module) -> None:
    images, before = images_of(2, 64, 64), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            limit_threads(count)
            found.append(OpenVinoUNet(unet, "float32").logits(images))
    finally:
        limit_threads(before)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_cpu_takes_it(unet: nn.Module) -> None:
    network = open_network(unet, torch.device("cpu"))
    assert isinstance(network, OpenVinoUNet)
    assert network.precision == ("bfloat16" if cpu_has_bfloat16() else "float32")


def test_pictures_that_do_not_fit_are_the_engines_error(unet: nn.Module) -> None:
    with pytest.raises(EngineError, match="segmenter"):
        OpenVinoUNet(unet, "float32").logits(torch.zeros((1, 5, 64, 64)))
