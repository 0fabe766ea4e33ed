"""What triage and the reader's tower see of a set's phantoms, kept beside their slices for the reader's training.

seen.npy         int64 (seen,): the slices that the tower has looked at, with some that are not read
served.npy       int64 (served,): those rows of ``seen`` which the service selects
features.npy     float16 (seen, 64, width): the tower's patches, averaged 4 x 4 as the projector does it
suspicion.npy    float32 (seen,): the triage model's, by which the service selects slices
bleeding.npy     float32 (seen,): its logit of active bleeding, by which it does so as well
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import SiglipModel

from reader_tower import make_tower, read_weights
from trauma_api.engines.checkpoints import open_checkpoint
from trauma_api.engines.device import choose_vision_dtype
from trauma_api.engines.siglip import suspicion_from_logits
from trauma_api.phantom.truth import TRUTH_FILE, PhantomTruth
from trauma_api.services.slice_selection import select_slices
from trauma_api.services.triage import with_neighbours
from trauma_api.settings import TRIAGE_STATEMENTS, Settings
from triage_data import resized
from triage_run import compare, embed_statements, statement_tokens
from write_untrained_checkpoints import READER_SLICES, TOKENS_PER_IMAGE

THRESHOLD: float = Settings.model_fields["triage_threshold"].default
_SEEN_AT_ONCE = 16
_JUDGED_SLICES, _SEEN_SLICES = 90, 20
"""Of a phantom: how many triage looks at, at most, and how many the tower does beside evenly spaced ones. These are
more than are read, for readings of other slices than the service selects."""
_BLEEDING = list(TRIAGE_STATEMENTS).index("active_hemorrhage")


class Eyes:
    """Triage, which says where to look, and the reader's tower, which looks."""

    def __init__(self, triage: Path, tower: Path) -> None:
        """A triage checkpoint and the weights that `train_reader_tower` exports. Raises ValueError."""
        found = open_checkpoint(str(triage), "triage")
        if found.metadata.calibration is None:
            raise ValueError(f"{triage} states no calibration")
        self._calibration = found.metadata.calibration
        self._model: Any = SiglipModel.from_pretrained(triage, dtype=torch.float32).eval()
        with torch.inference_mode():
            self._statements = embed_statements(self._model, statement_tokens(triage, self._model))
        self._tower: Any = make_tower().eval()
        self._tower.load_state_dict(read_weights(tower))
        # as the engine does it
        kind = choose_vision_dtype(torch.device("cpu"))
        self._model.vision_model.to(kind)
        self._tower.to(kind)
        self.stamp = f"{found.sha256} {hashlib.sha256(tower.read_bytes()).hexdigest()}"

    @torch.inference_mode()
    def judge(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (slices, statements) of pictures (slices, rows, columns, 3)."""
        parts = []
        for start in range(0, len(pixels), _SEEN_AT_ONCE):
            seen = _normalised(pixels[start : start + _SEEN_AT_ONCE], self._model.vision_model)
            output = self._model.vision_model(pixel_values=seen)
            parts.append(compare(self._model, output.pooler_output.float(), self._statements).numpy())
        return np.concatenate(parts)

    def suspicion(self, logits: NDArray[np.float32], at_mm: NDArray[np.floating]) -> NDArray[np.float32]:
        """As the service forms it."""
        alone = suspicion_from_logits(logits, self._calibration.scale, self._calibration.offset)
        return np.asarray(with_neighbours(alone, at_mm), np.float32)

    @torch.inference_mode()
    def look(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(slices, tokens, width): what the reader's projector gets."""
        parts = []
        for start in range(0, len(pixels), _SEEN_AT_ONCE):
            seen = _normalised(pixels[start : start + _SEEN_AT_ONCE], self._tower)
            states = self._tower(pixel_values=seen).last_hidden_state
            parts.append(pooled_patches(states.float()).half().numpy())
        return np.concatenate(parts)


def _normalised(pixels: NDArray[np.uint8], tower: Any) -> torch.Tensor:
    """As the tower takes them, at its size."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    levels = resized(values, tower.config.image_size) / 127.5 - 1.0
    return levels.to(next(iter(tower.parameters())).dtype)


def write_features(folder: Path, eyes: Eyes) -> None:
    """See those slices that a study's reading may be made of. What other weights have seen is seen again."""
    stamp = folder / "features.sha256"
    if stamp.is_file() and stamp.read_text() == eyes.stamp:
        return
    rgb = np.load(folder / "rgb.npy", mmap_mode="r")
    truth = PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes())
    at_mm = np.arange(len(rgb)) * truth.spacing_zyx_mm[0]
    logits = _judged(rgb, eyes)
    suspicion, bleeding = eyes.suspicion(logits, at_mm), logits[:, _BLEEDING]
    served, wide = (
        select_slices(suspicion, THRESHOLD, budget, bleeding=bleeding, positions_mm=at_mm)
        for budget in (READER_SLICES, _SEEN_SLICES)
    )
    seen = np.unique([*served, *wide, *evenly(len(rgb))])
    stamp.unlink(missing_ok=True)
    np.save(folder / "seen.npy", seen)
    np.save(folder / "served.npy", np.flatnonzero(np.isin(seen, served)))
    np.save(folder / "features.npy", eyes.look(rgb[seen]))
    np.save(folder / "suspicion.npy", suspicion[seen])
    np.save(folder / "bleeding.npy", bleeding[seen])
    stamp.write_text(eyes.stamp)


def _judged(rgb: NDArray[np.uint8], eyes: Eyes) -> NDArray[np.float32]:
    """Logits (slices, statements), of long phantoms between those of every second, third ... slice."""
    judged = np.arange(0, len(rgb), math.ceil(len(rgb) / _JUDGED_SLICES))
    logits = eyes.judge(rgb[judged])
    return np.stack([np.interp(np.arange(len(rgb)), judged, one) for one in logits.T], axis=1).astype(np.float32)


def evenly(count: int) -> list[int]:
    """As many slices as are read, without the ends."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, READER_SLICES + 2).round()[1:-1])]


def pooled_patches(states: torch.Tensor) -> torch.Tensor:
    """(slices, patches, width) to (slices, 64, width), as ``Gemma3MultiModalProjector`` averages them."""
    side = math.isqrt(states.shape[1])
    grid = states.transpose(1, 2).reshape(len(states), -1, side, side)
    return functional.avg_pool2d(grid, side // math.isqrt(TOKENS_PER_IMAGE)).flatten(2).transpose(1, 2)
