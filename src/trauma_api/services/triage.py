"""Triage: score every slice, select the ones to read."""

import time

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.volume import CTVolume, ImageStack
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.triage import CandidateScore, SliceScore, TriageResult
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.ports import Progress, TriagePort, ignore_progress
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.study_storage import StoredStudy
from trauma_api.settings import TriageCandidate

GIB = 1024**3
SUSPICION_REACH_MM = 7.0
"""Standard deviation of the weights by which neighbouring slices count."""
_SUREST = 1e-6


def slice_budget_for(device_memory_bytes: int | None) -> int:
    """Slices that are read together: 3 up to 16 GB of device memory, 6 up to 24 GB, 10 above; 3 on a CPU."""
    if device_memory_bytes is None or device_memory_bytes <= 16 * GIB:
        return 3
    return 6 if device_memory_bytes <= 24 * GIB else 10


def slice_positions_mm(stack: ImageStack) -> NDArray[np.float64] | None:
    """Where the middles of the slices lie along their normal; None without a spacing."""
    if isinstance(stack, CTVolume) and stack.slice_thickness_mm is not None:
        thickness = np.array(stack.slice_thickness_mm)
        return np.asarray(np.cumsum(thickness) - thickness / 2)
    if stack.spacing_zyx_mm is None:
        return None
    return np.arange(stack.slice_count, dtype=np.float64) * stack.spacing_zyx_mm[0]


def with_neighbours(suspicion: NDArray[np.float32], positions_mm: NDArray[np.floating] | None) -> NDArray[np.float32]:
    """Suspicion of each slice and its neighbours, by their log-odds. Slices without a known distance count alone."""
    if positions_mm is None:
        return suspicion
    sure = np.clip(suspicion.astype(np.float64), _SUREST, 1.0 - _SUREST)
    log_odds = neighbour_mean(np.log(sure / (1.0 - sure)), positions_mm)
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)), np.float32)


def neighbour_mean(values: NDArray[np.floating], positions_mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean of each slice's value and its neighbours', weighted by a Gaussian of the distance; (slices,).

    An injury goes on from slice to slice, noise does not.
    """
    distance = (positions_mm[:, None] - positions_mm) / SUSPICION_REACH_MM
    weights = np.exp(-0.5 * distance**2)
    return np.asarray(weights @ values / weights.sum(axis=1))


def select_slices(suspicion: NDArray[np.float32], threshold: float, budget: int) -> list[int]:
    """The most suspicious slices at or above the threshold, spread out, in anatomical order; never none.

    Neighbours show the same injury again, so a slice is passed over while one within the gap is already taken. The gap
    is a third of a fair share of the stack; it is halved when no candidate is left. Of slices that are equally
    suspicious, to three decimals, the one farthest from those taken goes first.
    """
    rounded = np.round(suspicion, 3)
    candidates = [int(index) for index in np.flatnonzero(suspicion >= threshold)] or [int(np.argmax(suspicion))]
    gap = max(1, len(suspicion) // (3 * budget))
    taken: list[int] = []
    while len(taken) < min(budget, len(candidates)):
        apart = [index for index in candidates if all(abs(index - other) > gap for other in taken)]
        if apart:
            most = max(rounded[index] for index in apart)
            taken.append(_farthest([index for index in apart if rounded[index] == most], taken, len(suspicion)))
        else:
            gap //= 2
    return sorted(taken)


def _farthest(indices: list[int], taken: list[int], count: int) -> int:
    """The index farthest from its nearest taken one; with none taken the most central one."""
    if not taken:
        return min(indices, key=lambda index: abs(index - (count - 1) / 2))
    return max(indices, key=lambda index: min(abs(index - other) for other in taken))


class TriageService:
    """Scores and selects slices."""

    def __init__(
        self, port: TriagePort, *, candidates: tuple[TriageCandidate, ...], threshold: float, slice_budget: int
    ) -> None:
        self._port = port
        self._candidates = candidates
        self._threshold = threshold
        self.slice_budget = slice_budget

    async def run(
        self, study: StoredStudy, threshold: float | None = None, on_progress: Progress = ignore_progress
    ) -> TriageResult:
        """Score all slices of a study. Raises StudyNotEligibleError."""
        require_eligible(study)
        began = time.monotonic()
        scores = await self._port.score(study.stack, on_progress)
        suspicion = with_neighbours(scores.suspicion, slice_positions_mm(study.stack))
        chosen = self._threshold if threshold is None else threshold
        return TriageResult(
            study_id=study.record.study_id,
            threshold=chosen,
            slice_budget=self.slice_budget,
            suspicious_count=int((suspicion >= chosen).sum()),
            selected_slices=select_slices(suspicion, chosen, self.slice_budget),
            slices=self._slices(suspicion, scores.logits),
            provenance=[provenance_of(self._port.info, time.monotonic() - began)],
            warnings=[*study.record.warnings, *caveats_of(self._port.info)],
            notice=RESEARCH_NOTICE,
        )

    def _slices(self, suspicion: NDArray[np.float32], logits: NDArray[np.float32]) -> list[SliceScore]:
        return [
            SliceScore(
                slice_index=index,
                suspicion=round(float(suspicious), 4),
                candidates=[
                    CandidateScore(candidate=candidate, logit=round(float(logit), 4))
                    for candidate, logit in zip(self._candidates, of_slice, strict=True)
                ],
            )
            for index, (suspicious, of_slice) in enumerate(zip(suspicion, logits, strict=True))
        ]
