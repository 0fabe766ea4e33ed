"""Segmentation: a U-Net with a ResNet34 encoder marks blood, slice by slice."""

import math
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn.functional import interpolate, pad

from trauma_api.engines.base import CheckpointError, EngineError, EngineInfo
from trauma_api.engines.checkpoints import SegmenterInput, loading, open_checkpoint
from trauma_api.engines.device import (
    Device,
    choose_device,
    choose_dtype,
    choose_vision_dtype,
    dtype_name,
    on_device,
    parts_for_cores,
    side_by_side,
)
from trauma_api.imaging.body import trunk_box
from trauma_api.imaging.measure import NoiseRule

ENCODER_STRIDE = 32
"""Rows and columns that go into the network are multiples of this: five halvings in the encoder."""


def segmenter_input(
    voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
    spacing_yx_mm: tuple[float, float],
    start: int,
    stop: int,
    seen: SegmenterInput,
    device: torch.device,
) -> torch.Tensor:
    """Slices start to stop as the network sees them: float32 (stop - start, channels, rows, columns), 0 to 1.

    Training must build its input with this function. Hounsfield units are averaged over the neighbours (at the ends
    of the volume over those that exist) and brought to the pixel spacing first, and windowed after, so that noise
    averages out before a narrow window clips it.
    """
    reach = max(channel.neighbours for channel in seen.channels)
    low, high = max(start - reach, 0), min(stop + reach, len(voxels_zyx_hu))
    hu = torch.from_numpy(np.ascontiguousarray(voxels_zyx_hu[low:high], dtype=np.float32)).to(device)
    if seen.pixel_spacing_mm is not None:
        hu = to_pixel_spacing(hu[:, None], spacing_yx_mm, seen.pixel_spacing_mm)[:, 0]
    channels = []
    for channel in seen.channels:
        means = [
            hu[max(i - channel.neighbours, 0) - low : min(i + channel.neighbours + 1, high) - low].mean(dim=0)
            for i in range(start, stop)
        ]
        bottom, top = channel.window_hu
        channels.append(((torch.stack(means) - bottom) / (top - bottom)).clamp(0, 1))
    return torch.stack(channels, dim=1)


def to_pixel_spacing(images: torch.Tensor, spacing_yx_mm: tuple[float, float], wanted_mm: float) -> torch.Tensor:
    """Images (n, channels, rows, columns) on pixels of ``wanted_mm``, as near as whole pixels come to that."""
    rows, columns = (
        max(round(count * spacing_mm / wanted_mm), 1)
        for count, spacing_mm in zip(images.shape[-2:], spacing_yx_mm, strict=True)
    )
    return _resized(images, (rows, columns))


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear; antialiased, which only matters where the grid becomes coarser."""
    if images.shape[-2:] == size:
        return images
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


class UNetSegmenter:
    """Implements Segmenter with ``smp.Unet("resnet34")``.

    On a CPU that is faster in bfloat16 the convolutions run in it. Only the trunk's box goes through the network
    (`trunk_box`); outside of it are air, the table and arms, where the probability is 0.
    """

    def __init__(
        self,
        model: Any,
        info: EngineInfo,
        *,
        seen: SegmenterInput,
        threshold: float,
        noise: NoiseRule | None = None,
        batch_size: int,
    ) -> None:
        self._model, self._info, self._seen = model, info, seen
        self._threshold, self._noise, self._batch_size = threshold, noise, batch_size
        self._weight = next(model.parameters())
        self._boxes: list[tuple[weakref.ref[NDArray[Any]], tuple[slice, slice]]] = []
        self._half_on_cpu = info.device == "cpu" and info.dtype == "bfloat16"

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        device: Device = "auto",
        token: str | None = None,
        cache_dir: Path | None = None,
        batch_size: int = 4,
    ) -> "UNetSegmenter":
        """Load a local folder or hub id with ``model.safetensors`` and ``trauma.json``. Raises CheckpointError."""
        found = open_checkpoint(checkpoint, "segmenter", token=token, cache_dir=cache_dir)
        place = choose_device(device)
        seen, threshold = found.metadata.input, found.metadata.threshold
        if seen is None or threshold is None:
            raise CheckpointError(f"The metadata of {checkpoint} lacks input or threshold; add them to trauma.json.")
        model = loading(checkpoint, lambda: _load_model(found.folder, len(seen.channels), place))
        info = found.engine_info(place, dtype_name(choose_vision_dtype(place)))
        return cls(
            model,
            info,
            seen=seen,
            threshold=threshold,
            noise=found.metadata.noise,
            batch_size=batch_size,
        )

    @property
    def info(self) -> EngineInfo:
        """Where the results come from."""
        return self._info

    @property
    def batch_size(self) -> int:
        """Slices that go through the network together."""
        return self._batch_size

    @property
    def threshold(self) -> float:
        """The probability from which the checkpoint calls a voxel blood."""
        return self._threshold

    @property
    def noise(self) -> NoiseRule | None:
        """Which regions are noise to the checkpoint; None where all are blood."""
        return self._noise

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """Probability of hemorrhage for slices start to stop, float32 (stop - start, rows, columns).

        Raises EngineError; ValueError where start and stop are no part of the volume.
        """
        if not 0 <= start <= stop <= len(voxels_zyx_hu):
            raise ValueError(f"slices {start} to {stop} are not within a volume of {len(voxels_zyx_hu)}")
        result = np.zeros((stop - start, *voxels_zyx_hu.shape[1:]), np.float32)
        rows, columns = self._box_of(voxels_zyx_hu)
        trunk = voxels_zyx_hu[:, rows, columns]
        for first in range(start, stop, self._batch_size):
            parts = parts_for_cores(first, min(first + self._batch_size, stop), self._weight.device)
            pieces = [partial(on_device, partial(self._batch, trunk, spacing_zyx_mm[1:], *part)) for part in parts]
            for (begin, end), probability in zip(parts, side_by_side(pieces), strict=True):
                result[begin - start : end - start, rows, columns] = probability
        return result

    def _box_of(self, voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32]) -> tuple[slice, slice]:
        """The trunk's box, looked for once for each volume, as tiles of several volumes may take turns."""
        for volume, box in self._boxes:
            if volume() is voxels_zyx_hu:
                return box
        box = trunk_box(voxels_zyx_hu)
        self._boxes = [known for known in self._boxes if known[0]() is not None]
        self._boxes.append((weakref.ref(voxels_zyx_hu), box))
        return box

    @torch.inference_mode()
    def _batch(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_yx_mm: tuple[float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        images = segmenter_input(voxels_zyx_hu, spacing_yx_mm, start, stop, self._seen, self._weight.device)
        rows, columns = images.shape[-2:]
        more_rows = math.ceil(rows / ENCODER_STRIDE) * ENCODER_STRIDE - rows
        more_columns = math.ceil(columns / ENCODER_STRIDE) * ENCODER_STRIDE - columns
        padded = pad(images, (0, more_columns, 0, more_rows)).to(self._weight.dtype, memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._half_on_cpu):
            logits = self._model(padded)
        if not bool(torch.isfinite(logits).all()):
            raise EngineError("The segmenter's output is not finite: its precision does not hold its activations.")
        inside = logits[..., :rows, :columns].float().sigmoid()
        grid = (voxels_zyx_hu.shape[1], voxels_zyx_hu.shape[2])
        probabilities: NDArray[np.float32] = _resized(inside, grid)[:, 0].cpu().numpy()
        return probabilities


def _load_model(folder: Path, channels: int, place: torch.device) -> Any:
    model = smp.Unet("resnet34", encoder_weights=None, in_channels=channels, classes=1)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model.to(place, choose_dtype(place), memory_format=torch.channels_last).eval()
