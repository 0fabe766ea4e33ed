"""Triage: score the slices, select the ones to read.

On a CPU, where scoring is slow, thin slices are scored coarsely first and then, around those that would be read, each.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.engines.base import TriageScores
from trauma_api.imaging.volume import CTVolume, ImageStack
from trauma_api.schemas.base import RESEARCH_NOTICE, Caveat
from trauma_api.schemas.triage import CandidateScore, SliceScore, TriageResult
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.ports import Progress, TriagePort, ignore_progress
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.slice_selection import select_slices
from trauma_api.services.study_storage import StoredStudy
from trauma_api.settings import TriageCandidate

GIB = 1024**3
SUSPICION_REACH_MM = 7.0
"""Standard deviation of the weights by which neighbouring slices count."""
COARSE_STEP_MM = 5.0
"""How far apart the slices lie that a CPU scores first; within the reach of a neighbour's suspicion."""
_SUREST, _SAME_MM = 1e-6, 1e-3


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


def with_neighbours(
    suspicion: NDArray[np.float32],
    positions_mm: NDArray[np.floating] | None,
    at_mm: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Suspicion of each slice and its neighbours, by their log-odds. Slices without a known distance count alone.

    With ``at_mm`` it is that of slices there, of which some or all were not scored themselves.
    """
    if positions_mm is None:
        return suspicion
    sure = np.clip(suspicion.astype(np.float64), _SUREST, 1.0 - _SUREST)
    log_odds = neighbour_mean(np.log(sure / (1.0 - sure)), positions_mm, at_mm)
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)), np.float32)


def neighbour_mean(
    values: NDArray[np.floating], positions_mm: NDArray[np.floating], at_mm: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """The mean of each slice's value and its neighbours', weighted by a Gaussian of the distance; (slices,).

    An injury goes on from slice to slice, noise does not. ``at_mm`` is where the means are wanted, if elsewhere.
    """
    distance = ((positions_mm if at_mm is None else at_mm)[:, None] - positions_mm) / SUSPICION_REACH_MM
    weights = np.exp(-0.5 * distance**2)
    return np.asarray(weights @ values / weights.sum(axis=1))


def coarse_indices(positions_mm: NDArray[np.floating]) -> list[int]:
    """The first slice, the last, and between them as few as leave no gap above `COARSE_STEP_MM`, where slices allow."""
    last = len(positions_mm) - 1
    taken = [0]
    for index in range(1, last + 1):
        if index == last or positions_mm[index + 1] - positions_mm[taken[-1]] > COARSE_STEP_MM + _SAME_MM:
            taken.append(index)
    return taken


def fine_indices(selected: Sequence[int], scored: Sequence[int]) -> list[int]:
    """The slices between a selected one and the scored ones on either side of it."""
    around: set[int] = set()
    for index in selected:
        place = scored.index(index)
        first, last = scored[max(place - 1, 0)], scored[min(place + 1, len(scored) - 1)]
        around.update(range(first, last + 1))
    return sorted(around - set(scored))


@dataclass(frozen=True)
class _Scored:
    """The slices that were scored, their scores in this order, and the suspicion and place of all slices."""

    indices: list[int]
    scores: TriageScores
    suspicion: NDArray[np.float32]
    positions_mm: NDArray[np.float64] | None


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
        """Score a study's slices. Raises StudyNotEligibleError."""
        require_eligible(study)
        began = time.monotonic()
        chosen = self._threshold if threshold is None else threshold
        found = await self._score(study.stack, chosen, on_progress)
        return TriageResult(
            study_id=study.record.study_id,
            threshold=chosen,
            slice_budget=self.slice_budget,
            suspicious_count=int((found.suspicion >= chosen).sum()),
            selected_slices=self._selected(found, chosen),
            slices=self._slices(found),
            provenance=[provenance_of(self._port.info, time.monotonic() - began)],
            warnings=[*study.record.warnings, *caveats_of(self._port.info), *_passed_over(found)],
            notice=RESEARCH_NOTICE,
        )

    async def _score(self, stack: ImageStack, threshold: float, on_progress: Progress) -> _Scored:
        positions = slice_positions_mm(stack)
        if positions is None or self._port.info.device != "cpu":
            indices = list(range(stack.slice_count))
        else:
            indices = coarse_indices(positions)
        found = _scored(indices, await self._port.score(stack, on_progress, indices), positions)
        more = fine_indices(self._selected(found, threshold), indices) if len(indices) < stack.slice_count else []
        if not more:
            return found

        def go_on(done: int, total: int) -> None:
            on_progress(len(indices) + done, len(indices) + total)

        scores = await self._port.score(stack, go_on, more)
        order = np.argsort([*indices, *more])
        both = TriageScores(
            logits=np.concatenate([found.scores.logits, scores.logits])[order],
            suspicion=np.concatenate([found.scores.suspicion, scores.suspicion])[order],
        )
        return _scored(sorted([*indices, *more]), both, positions)

    def _selected(self, found: _Scored, threshold: float) -> list[int]:
        """Of the scored slices alone: nobody has looked at the others."""
        alone, bleeding = np.full_like(found.suspicion, -1.0), np.full(len(found.suspicion), -np.inf)
        alone[found.indices] = found.suspicion[found.indices]
        bleeding[found.indices] = found.scores.logits[:, self._candidates.index("active_hemorrhage")]
        return select_slices(alone, threshold, self.slice_budget, bleeding=bleeding, positions_mm=found.positions_mm)

    def _slices(self, found: _Scored) -> list[SliceScore]:
        logits = dict(zip(found.indices, found.scores.logits, strict=True))
        return [
            SliceScore(
                slice_index=index,
                scored=index in logits,
                suspicion=round(float(suspicious), 4),
                candidates=[
                    CandidateScore(candidate=candidate, logit=round(float(logit), 4))
                    for candidate, logit in zip(self._candidates, logits[index], strict=True)
                ]
                if index in logits
                else [],
            )
            for index, suspicious in enumerate(found.suspicion)
        ]


def _scored(indices: list[int], scores: TriageScores, positions_mm: NDArray[np.float64] | None) -> _Scored:
    if positions_mm is None:
        return _Scored(indices, scores, scores.suspicion, None)
    suspicion = with_neighbours(scores.suspicion, positions_mm[indices], positions_mm)
    return _Scored(indices, scores, suspicion, positions_mm)


def _passed_over(found: _Scored) -> list[Caveat]:
    count, of = len(found.indices), len(found.suspicion)
    if count == of:
        return []
    detail = (
        f"{count} of {of} slices were scored: one every {COARSE_STEP_MM:g} mm at most, and all around those selected."
        " The others have the suspicion of their neighbours."
    )
    return [Caveat(code="slices-not-scored", detail=detail)]
