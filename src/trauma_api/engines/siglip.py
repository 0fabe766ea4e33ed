"""Triage: SigLIP compares each slice with statements of what it may show."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, SiglipModel

from trauma_api.engines.base import CheckpointError, EngineError, EngineInfo, SlicePixels, TriageScores
from trauma_api.engines.checkpoints import Calibration, Checkpoint, load_pretrained, loading, open_checkpoint
from trauma_api.engines.ct_windows import windowed_squares
from trauma_api.engines.device import (
    Device,
    choose_device,
    choose_dtype,
    on_device,
    parts_for_cores,
    side_by_side,
)
from trauma_api.engines.int8_check import check_slices, require_same_scores
from trauma_api.engines.vision_tower import VisionTower, is_small, open_tower
from trauma_api.imaging.windowing import padded_to_square

_TILE_ON_DEVICE, _TILE_ON_CPU = 32, 16


def suspicion_from_logits(logits: NDArray[np.float32], scale: float, offset: float) -> NDArray[np.float32]:
    """sigmoid(scale * (strongest injury - normal) + offset) of logits (slices, statements), the last being normal's.

    A difference, because SigLIP's own sigmoid stands near zero for all statements (its bias is about -10).
    """
    difference = logits[:, :-1].max(axis=1) - logits[:, -1]
    # the logarithm of the sigmoid first: exp of a large positive number would overflow
    suspicion: NDArray[np.float32] = np.exp(-np.logaddexp(0.0, -(scale * difference + offset))).astype(np.float32)
    return suspicion


class SiglipTriage:
    """Implements TriageEngine with a ``SiglipModel``.

    The statements are embedded once, at load; after that only the vision tower is kept.
    """

    def __init__(
        self, model: Any, processor: Any, statements: tuple[str, ...], info: EngineInfo, *, calibration: Calibration,
        tower: VisionTower, batch_size: int,
    ) -> None:  # fmt: skip
        """``statements`` name the injuries, and last the normal slice. Raises ValueError for fewer than two."""
        if len(statements) < 2:
            raise ValueError("triage needs at least one statement of an injury and the normal one")
        self._info, self._calibration, self._batch_size = info, calibration, batch_size
        self._images, self._tower = processor.image_processor, tower
        self._scale, self._bias = model.logit_scale.float().exp().item(), model.logit_bias.float().item()
        self._statements = _embed_statements(model, processor.tokenizer, statements)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        statements: tuple[str, ...],
        *,
        device: Device = "auto",
        token: str | None = None,
        cache_dir: Path | None = None,
        batch_size: int | None = None,
        int8: bool = False,
    ) -> "SiglipTriage":
        """Load a local folder or hub id; ``batch_size`` None goes by device and model.

        ``int8`` multiplies in 8 bits, on a CPU, where the checkpoint keeps its scores so; looking takes seconds for
        each of eight slices of a large tower. Raises CheckpointError.
        """
        found = open_checkpoint(checkpoint, "triage", token=token, cache_dir=cache_dir)
        place = choose_device(device)
        model, processor = _load_model(found, place)
        calibration = found.metadata.calibration
        if calibration is None:
            raise CheckpointError(f"The metadata of {checkpoint} states no calibration; add it to trauma.json.")
        tower = loading(found.name, lambda: open_tower(model.vision_model, place))
        exact = cls(
            model, processor, statements, found.engine_info(place, tower.precision), calibration=calibration,
            tower=tower, batch_size=batch_size or _batch_size(model.vision_model, place),
        )  # fmt: skip
        return _in_8_bits(exact, model.vision_model, place, checkpoint) if int8 else exact

    def with_tower(self, tower: VisionTower) -> "SiglipTriage":
        """The same triage whose pictures go through another tower, which must have the same weights."""
        twin = copy(self)
        twin._tower, twin._info = tower, replace(self._info, dtype=tower.precision)
        return twin

    @property
    def info(self) -> EngineInfo:
        """Where the results come from."""
        return self._info

    @property
    def batch_size(self) -> int:
        """Slices that go through the tower together."""
        return self._batch_size

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Score slices, all of them pictures or all of them CT slices of one shape. Raises EngineError."""
        return self.scores_of(self.embed(slices))

    def embed(self, slices: Sequence[SlicePixels]) -> NDArray[np.float32]:
        """Embeddings of slices as `score` takes them, float32 (slices, width), of length 1. Raises EngineError."""
        batches = [np.empty((0, self._statements.shape[1]), np.float32)]
        for first in range(0, len(slices), self._batch_size):
            parts = parts_for_cores(first, min(first + self._batch_size, len(slices)), self._tower.device)
            batches += side_by_side([partial(on_device, partial(self._embed, slices[a:b])) for a, b in parts])
        return np.concatenate(batches)

    def scores_of(self, embeddings: NDArray[np.float32]) -> TriageScores:
        """Scores of slices by their embeddings, (slices, width). Raises EngineError where they are not finite."""
        logits: NDArray[np.float32] = embeddings @ self._statements.T * self._scale + self._bias
        if not np.isfinite(logits).all():
            raise EngineError("The triage model's output is not finite: its precision does not hold its activations.")
        suspicion = suspicion_from_logits(logits, self._calibration.scale, self._calibration.offset)
        return TriageScores(logits=logits, suspicion=suspicion)

    @torch.inference_mode()
    def _embed(self, slices: Sequence[SlicePixels]) -> NDArray[np.float32]:
        # resized where the tower is: an accelerator takes bytes and is quicker at it
        place = self._tower.device
        pixels = self._images(images=self._squares(slices), return_tensors="pt", device=place)["pixel_values"]
        embeddings: NDArray[np.float32] = torch.nn.functional.normalize(self._tower.embed(pixels), dim=-1).cpu().numpy()
        return embeddings

    def _squares(self, slices: Sequence[SlicePixels]) -> list[NDArray[np.uint8]] | torch.Tensor:
        if slices[0].ndim == 2:
            return windowed_squares(np.stack(slices), self._tower.device)
        return [padded_to_square(np.asarray(picture, np.uint8)) for picture in slices]


def _batch_size(tower: Any, place: torch.device) -> int:
    """Slices of a tile: many on an accelerator, on a CPU no more than keep others waiting for about a second."""
    if place.type != "cpu":
        return _TILE_ON_DEVICE
    return _TILE_ON_CPU if is_small(tower) else 1


def _in_8_bits(exact: SiglipTriage, tower: Any, place: torch.device, checkpoint: str) -> SiglipTriage:
    """``exact`` in 8 bits. Raises CheckpointError where its scores would not stay, and on an accelerator."""
    try:
        reduced = exact.with_tower(open_tower(tower, place, int8=True))
    except ValueError as error:
        raise CheckpointError(f"{checkpoint} is not taken as asked: {error}; leave TRAUMA_TRIAGE_INT8 off.") from error
    require_same_scores(checkpoint, exact, reduced, check_slices())
    return reduced


def _load_model(found: Checkpoint, place: torch.device) -> tuple[Any, Any]:
    model = load_pretrained(SiglipModel, found, choose_dtype(place))
    processor = loading(found.name, lambda: AutoProcessor.from_pretrained(found.folder, local_files_only=True))
    return loading(found.name, lambda: model.to(place)).eval(), processor


@torch.inference_mode()
def _embed_statements(model: Any, tokenizer: Any, statements: tuple[str, ...]) -> NDArray[np.float32]:
    """Normalised, float32 (statements, width). The model reads the last position, so padding is to the full length
    and, as in its training, not masked."""
    tokens = tokenizer(
        list(statements),
        padding="max_length",
        max_length=model.config.text_config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    )
    pooled = model.text_model(input_ids=tokens["input_ids"].to(model.device)).pooler_output
    embeddings: NDArray[np.float32] = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
    return embeddings
