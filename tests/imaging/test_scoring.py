"""A series scores by what matters for finding abdominal bleeding, and says from what."""

from itertools import pairwise
from typing import Any

import pytest

from tests.imaging.slice_records import evenly, seen, stack
from trauma_api.imaging.scoring import Score, score
from trauma_api.imaging.series import find_candidates
from trauma_api.imaging.study import Coverage, Eligibility, ReadLimits


def scored(count: int = 150, slice_mm: float = 3.0, shown: Eligibility | None = None, **attributes: Any) -> Score:
    headers = stack(evenly(count, slice_mm), **attributes)
    (candidate,) = find_candidates(headers, ReadLimits()).usable
    return score(candidate.group, candidate.placement, shown)


BEST: dict[str, Any] = {"phase": "portal_venous", "sharp_kernel": False, "contrast_agent": True}
WORST: dict[str, Any] = {
    "phase": "non_contrast",
    "sharp_kernel": True,
    "contrast_agent": False,
    "derived": True,
    "lossy": True,
}


def test_the_best_series_scores_100_and_the_worst_eligible_one_above_every_ineligible_one() -> None:
    assert scored(shown=seen(400), **BEST).points == 100
    ineligible = scored(shown=seen(400, eligible=False), **BEST)
    worst = scored(count=1, shown=Eligibility("eligible", coverage=Coverage(None, None, False, False)), **WORST)
    assert 0 < ineligible.points < 10 <= worst.points < 11
    assert ineligible.reasons[0] == "ineligible-by-pixels"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"phase": "portal_venous"}, {"phase": "arterial"}),
        ({"phase": "arterial"}, {"phase": "delayed"}),
        ({"phase": "delayed"}, {"phase": "unknown"}),
        ({"phase": "unknown"}, {"phase": "non_contrast"}),
        ({"derived": False}, {"derived": True}),
        ({"sharp_kernel": False}, {"sharp_kernel": None}),
        ({"sharp_kernel": None}, {"sharp_kernel": True}),
        ({"lossy": False}, {"lossy": True}),
        ({"contrast_agent": True}, {"contrast_agent": None}),
        ({"contrast_agent": None}, {"contrast_agent": False}),
        ({"shown": seen(350)}, {"shown": seen(200)}),
        ({"shown": seen(200)}, {"shown": seen(None)}),
        ({"shown": seen(200)}, {"shown": seen(200, top=False)}),
        ({"slice_mm": 3.0}, {"slice_mm": 5.0, "count": 90}),
        ({"slice_mm": 5.0, "count": 90}, {"slice_mm": 8.0, "count": 57}),
        ({"slice_mm": 1.0, "count": 450}, {"slice_mm": 0.5, "count": 900}),
        ({"count": 150}, {"count": 60}),
        # A reformat is not made good by finer slices, nor missing abdomen by the phase.
        ({"slice_mm": 5.0, "count": 90}, {"slice_mm": 1.0, "count": 450, "derived": True}),
        ({"shown": seen(350)}, {"shown": seen(None), **BEST}),
    ],
)
def test_what_is_better_scores_higher(better: dict[str, Any], worse: dict[str, Any]) -> None:
    assert scored(**better).points > scored(**worse).points


def test_reasons_name_each_part() -> None:
    assert scored(shown=seen(200, top=False), **BEST).reasons == (
        "abdomen-partly-seen",
        "top-cut-off",
        "bottom-included",
        "original",
        "phase-portal-venous",
        "slice-distance-fine",
        "kernel-soft",
        "length-full",
        "lossless",
        "contrast-agent-stated",
    )
    assert scored(count=20, slice_mm=6.0, **WORST).reasons == (
        "abdomen-not-checked",
        "top-not-checked",
        "bottom-not-checked",
        "derived",
        "phase-non-contrast",
        "slice-distance-coarse",
        "kernel-sharp",
        "length-short",
        "lossy",
        "no-contrast-agent",
    )


def test_the_score_has_no_cliffs_over_slice_distance() -> None:
    points = [scored(count=2, slice_mm=0.1 * tenth).points for tenth in range(5, 120)]
    assert max(abs(one - other) for one, other in pairwise(points)) < 0.5
