"""Whether triage in 8 bits scores slices as it does otherwise, asked of a checkpoint before it is used so."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trauma_api.engines.base import CheckpointError, SlicePixels, TriageScores
from trauma_api.imaging.volume import CTVolume
from trauma_api.imaging.windowing import trunk_slice
from trauma_api.phantom.draw import draw_training_phantom

LEAST_COSINE = 0.999
MOST_APART = 0.05
"""Of the suspicion of a slice. The default threshold is 0.25."""
_SEED, _SCENARIO = 11, "liver-and-spleen"
_SLICES = 8


class ChecksTriage(Protocol):
    """Triage whose embeddings can be looked at."""

    def embed(self, slices: Sequence[SlicePixels]) -> NDArray[np.float32]:
        """Float32 (slices, width), each of length 1. Raises EngineError."""
        ...

    def scores_of(self, embeddings: NDArray[np.float32]) -> TriageScores:
        """What the slices of these embeddings score. Raises EngineError."""
        ...


def require_same_scores(
    checkpoint: str, exact: ChecksTriage, int8: ChecksTriage, slices: Sequence[SlicePixels]
) -> None:
    """Compare both on these slices, of which there must be one at least.

    Raises CheckpointError where the embeddings of a slice have a cosine below `LEAST_COSINE`, or its suspicion differs
    by more than `MOST_APART`.
    """
    expected, found = exact.embed(slices), int8.embed(slices)
    cosine = float((expected.astype(np.float64) * found).sum(axis=1).min())
    apart = float(np.abs(exact.scores_of(expected).suspicion - int8.scores_of(found).suspicion).max())
    # asked this way round, what is not a number does not pass
    if not (cosine >= LEAST_COSINE and apart <= MOST_APART):
        raise CheckpointError(
            f"{checkpoint} does not keep its scores in 8 bits (on synthetic slices a cosine of {cosine:.5f} at least, "
            f"{LEAST_COSINE} needed; suspicion differs by {apart:.3f} at most, {MOST_APART} allowed); "
            "leave TRAUMA_TRIAGE_INT8 off."
        )


def check_slices() -> list[SlicePixels]:
    """Eight slices of a phantom with injuries, from the chest to the pelvis; drawing it takes seconds."""
    phantom = draw_training_phantom(_SEED, _SCENARIO)
    volume = CTVolume(phantom.voxels_zyx_hu, None)
    edges = np.linspace(0, volume.slice_count, _SLICES + 1)
    return [trunk_slice(volume, int(middle)) for middle in (edges[:-1] + edges[1:]) / 2]
