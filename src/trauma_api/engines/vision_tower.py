"""SigLIP's vision tower: by torch on an accelerator, by OpenVINO on a CPU."""

from typing import Any, Protocol

import torch

from trauma_api.engines.device import choose_vision_dtype, dtype_name
from trauma_api.engines.openvino_tower import OpenVinoTower

_SMALL_PARAMETERS = 50_000_000


class VisionTower(Protocol):
    """Makes an embedding of each picture."""

    @property
    def device(self) -> torch.device:
        """Where pictures are made for it."""
        ...

    @property
    def precision(self) -> str:
        """What it multiplies in, for example "bfloat16"."""
        ...

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings of pictures, float32 (pictures, channels, side, side) to (pictures, width). Raises EngineError."""
        ...


class TorchTower:
    """The tower as transformers wrote it, on the device and in the precision that it has."""

    def __init__(self, tower: Any) -> None:
        self._tower = tower

    @property
    def device(self) -> torch.device:
        """Where it is."""
        place: torch.device = self._tower.device
        return place

    @property
    def precision(self) -> str:
        """Of its weights."""
        return dtype_name(self._tower.dtype)

    @torch.inference_mode()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """As `VisionTower.embed`; the embeddings stay on the device."""
        embeddings: torch.Tensor = self._tower(pixel_values=pixels.to(self._tower.dtype)).pooler_output.float()
        return embeddings


def is_small(tower: Any) -> bool:
    """Whether a core does a slice in milliseconds."""
    count: int = sum(weight.numel() for weight in tower.parameters())
    return count < _SMALL_PARAMETERS


def open_tower(tower: Any, place: torch.device, *, int8: bool = False) -> VisionTower:
    """What ``tower``, a ``SiglipVisionModel`` in float32 or as its device has it, runs as on ``place``.

    Raises ValueError for ``int8`` on an accelerator, and on a CPU for a tower that is not SigLIP's.
    """
    if place.type == "cpu":
        precision = "int8" if int8 else dtype_name(choose_vision_dtype(place))
        return OpenVinoTower(tower, precision, one_core=is_small(tower))
    if int8:
        raise ValueError("its vision tower multiplies in 8 bits on a CPU only")
    return TorchTower(tower)
