"""The segmenter's U-Net: by torch on an accelerator, by OpenVINO on a CPU."""

from typing import Any, Protocol

import torch

from trauma_api.engines.device import choose_dtype, choose_vision_dtype, dtype_name
from trauma_api.engines.openvino_unet import OpenVinoUNet


class SegmentationNetwork(Protocol):
    """Tells blood from what is none."""

    @property
    def device(self) -> torch.device:
        """Where pictures are made for it."""
        ...

    @property
    def precision(self) -> str:
        """What it multiplies in, for example "bfloat16"."""
        ...

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of blood, float32 (slices, channels, rows, columns) to (slices, 1, rows, columns).

        Rows and columns are multiples of 32. Raises EngineError.
        """
        ...


class TorchUNet:
    """The U-Net as segmentation-models-pytorch wrote it, on the device and in the precision that it has."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._weight = next(unet.parameters())

    @property
    def device(self) -> torch.device:
        """Where it is."""
        place: torch.device = self._weight.device
        return place

    @property
    def precision(self) -> str:
        """Of its weights."""
        return dtype_name(self._weight.dtype)

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """As `SegmentationNetwork.logits`; they stay on the device."""
        logits: torch.Tensor = self._unet(images.to(self._weight.dtype, memory_format=torch.channels_last)).float()
        return logits


def open_network(unet: Any, place: torch.device) -> SegmentationNetwork:
    """What ``unet``, an ``smp.Unet("resnet34")`` in float32, runs as on ``place``."""
    if place.type == "cpu":
        return OpenVinoUNet(unet.eval(), dtype_name(choose_vision_dtype(place)))
    return TorchUNet(unet.to(place, choose_dtype(place), memory_format=torch.channels_last).eval())
