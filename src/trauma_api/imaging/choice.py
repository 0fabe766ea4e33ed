"""Chooses one of the usable CT series, and says why."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from trauma_api.imaging.scoring import Score, score
from trauma_api.imaging.series import Candidate, Candidates, FoundSeries
from trauma_api.imaging.study import Eligibility, Phase, SeriesSummary, StudyWarning

_NEAR_POINTS = 3.0
"""Scores this close say nothing about which series is the better one."""


@dataclass(frozen=True)
class Choice:
    """The chosen series, and what was found besides."""

    candidate: Candidate
    summaries: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]


def choose(candidates: Candidates, seen: Mapping[str, Eligibility]) -> Choice:
    """Take the candidate with the highest score; of equals the one with more slices, the finer one, the lower id.

    ``seen`` holds by series_id what decoded slices showed; candidates that are not in it were not looked at.
    """
    scores = {
        one.candidate.series_id: score(one.group, one.candidate.placement, seen.get(one.candidate.series_id))
        for one in candidates.found
        if one.candidate
    }

    def rank(candidate: Candidate) -> tuple[float, int, float, str]:
        points = scores[candidate.series_id].points
        return -points, -len(candidate.slices), _slice_mm(candidate), candidate.series_id

    chosen = min(candidates.usable, key=rank)
    usable = {one.series_id for one in candidates.usable}
    return Choice(
        candidate=chosen,
        summaries=tuple(
            _summary(one, _reason(one, chosen, candidates.pinned, usable, scores), scores) for one in candidates.found
        ),
        warnings=tuple(_warnings(candidates, chosen, scores, seen)),
    )


def _slice_mm(candidate: Candidate) -> float:
    spacing = candidate.placement.spacing_zyx_mm
    return spacing[0] if spacing else 0.0


def _reason(
    one: FoundSeries, chosen: Candidate, pinned: bool, usable: Container[str], scores: Mapping[str, Score]
) -> str:
    if one.candidate is chosen:
        return "pinned" if pinned else "selected"
    if one.candidate is None:
        return one.refusal.code if one.refusal and one.is_ct else "not-ct"
    if one.candidate.series_id not in usable:
        return "not-pinned"
    equal = scores[one.candidate.series_id].points == scores[chosen.series_id].points
    return "equal-score" if equal else "lower-score"


def _summary(one: FoundSeries, reason: str, scores: Mapping[str, Score]) -> SeriesSummary:
    group, first = one.group, one.group.first
    scored = scores[group.series_id] if one.candidate else None
    return SeriesSummary(
        series_id=group.series_id,
        series_uid=first.series_uid,
        modality=first.modality,
        slice_count=len(group.slices),
        rows=first.rows,
        columns=first.columns,
        spacing_zyx_mm=one.spacing_zyx_mm,
        orientation=one.orientation,
        phase=group.phase,
        lossy=group.lossy,
        transfer_syntax_uid=first.transfer_syntax_uid,
        selected=reason in {"selected", "pinned"},
        reason=reason,
        score=scored.points if scored else None,
        score_reasons=scored.reasons if scored else (),
    )


def _warnings(
    candidates: Candidates, chosen: Candidate, scores: Mapping[str, Score], seen: Mapping[str, Eligibility]
) -> Iterator[StudyWarning]:
    best = scores[chosen.series_id].points
    near = sum(best - scores[other.series_id].points <= _NEAR_POINTS for other in candidates.usable)
    if near > 1:
        detail = (
            f"{near} CT series suit about equally well; one was chosen. Pin one by its series_id with `series` to be "
            "sure of it."
        )
        yield StudyWarning("several-candidates", detail)
    phases = _other_phases(candidates, chosen, seen)
    if phases:
        detail = f"The study also holds usable CT series of other contrast phases: {', '.join(phases)}."
        yield StudyWarning("other-phases-available", detail)
    for one in candidates.found:
        if one.refusal and one.is_ct and len(one.group.slices) > len(chosen.slices) and not candidates.pinned:
            detail = f"A CT series with more slices was left out for: {one.refusal.code}."
            yield StudyWarning("larger-series-left-out", detail)
    yield from _warnings_of_chosen(chosen)


def _other_phases(candidates: Candidates, chosen: Candidate, seen: Mapping[str, Eligibility]) -> list[Phase]:
    phases = {
        other.group.phase
        for other in candidates.usable
        if other.series_id not in seen or seen[other.series_id].status != "ineligible"
    }
    return sorted(phases - {chosen.group.phase, "unknown"})


def _warnings_of_chosen(chosen: Candidate) -> Iterator[StudyWarning]:
    if chosen.placement.slice_thickness_mm is not None:
        distances = np.diff(chosen.placement.slice_centres_mm)
        detail = (
            f"The distance between slices varies from {distances.min():.2f} to {distances.max():.2f} mm; each slice "
            "counts with its own thickness."
        )
        yield StudyWarning("variable-slice-distance", detail)
    if chosen.group.copies:
        copies = chosen.group.copies
        were = "1 further copy of a slice was" if copies == 1 else f"{copies} further copies of slices were"
        yield StudyWarning("duplicate-slices", f"{were} left out: same instance and position, other file contents.")
