"""Which series are usable, which one is chosen, and what is said about it."""

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.imaging.slice_records import evenly, levels, record, seen, shuffled, stack
from trauma_api.errors import InputError
from trauma_api.imaging.choice import Choice, choose
from trauma_api.imaging.series import find_candidates
from trauma_api.imaging.slices import SliceHeader
from trauma_api.imaging.study import Eligibility, ReadLimits

LIMITS = ReadLimits()
COLLAPSED = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def chosen(
    headers: list[SliceHeader], pinned: str | None = None, shown: dict[str, Eligibility] | None = None
) -> Choice:
    return choose(find_candidates(headers, LIMITS, pinned), shown or {})


def refusal_of(headers: list[SliceHeader], pinned: str | None = None, limits: ReadLimits = LIMITS) -> InputError:
    with pytest.raises(InputError) as refusal:
        find_candidates(headers, limits, pinned)
    return refusal.value


def reasons(choice: Choice) -> dict[str | None, str]:
    return {summary.series_uid: summary.reason for summary in choice.summaries}


def codes(choice: Choice) -> list[str]:
    return [warning.code for warning in choice.warnings]


@pytest.mark.parametrize("sent", ["head first", "feet first", "shuffled"])
def test_slices_come_head_to_feet_whatever_the_order_sent(sent: str) -> None:
    headers = stack(evenly(20))
    expected = tuple(headers)
    if sent == "feet first":
        headers.reverse()
    elif sent == "shuffled":
        headers = shuffled(headers)
    candidate = chosen(headers).candidate
    assert candidate.slices == expected
    assert candidate.placement.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.8))
    assert candidate.placement.slice_centres_mm == pytest.approx(evenly(20))


def _oblique(degrees: float, count: int = 5) -> list[SliceHeader]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        record((0.0, 3 * index * sine, -3 * index * cosine), orientation=(1.0, 0.0, 0.0, 0.0, cosine, sine))
        for index in range(count)
    ]


def test_an_oblique_acquisition_is_taken_up_to_30_degrees() -> None:
    candidate = chosen(_oblique(10)).candidate
    assert candidate.placement.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.8))
    assert refusal_of(_oblique(45)).code == "not-axial"


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"modality": "MR"}, "no-ct-series"),
        ({"localizer": True}, "localizer"),
        ({"one_grey_channel": False}, "not-hu"),
        ({"rescale_type": "mg/ml"}, "not-hu"),
        ({"rescale": None}, "no-rescale"),
        ({"rows": 15}, "image-too-small"),
        ({"columns": 15}, "image-too-small"),
        ({"rows": 2_049}, "image-too-large"),
        ({"unplaced_frames": True}, "multi-frame-not-supported"),
        ({"orientation": None}, "missing-geometry"),
        ({"orientation": COLLAPSED}, "missing-geometry"),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, "not-axial"),
        ({"spacing_yx_mm": None}, "missing-geometry"),
        ({"spacing_yx_mm": (0.0, 0.8)}, "missing-geometry"),
        ({"position_mm": None}, "missing-geometry"),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.53"}, "no-decoder"),
    ],
)
def test_what_cannot_be_used_is_refused_by_code(attributes: dict[str, Any], code: str) -> None:
    assert refusal_of(stack(evenly(5), **attributes)).code == code


def test_one_position_missing_makes_the_series_unplaceable() -> None:
    headers = stack(evenly(5))
    assert refusal_of([*headers[:4], replace(headers[4], position_mm=None)]).code == "missing-geometry"


@pytest.mark.parametrize(
    ("distances", "code"),
    [
        ([3.0, 0.0, 3.0, 3.0], "duplicate-slice-positions"),
        ([3.0, 3.0, 6.0, 3.0], "missing-slices"),
        ([3.0, 3.0, 3.5, 3.0], "irregular-spacing"),
    ],
)
def test_stacks_that_are_no_grid_are_refused(distances: list[float], code: str) -> None:
    assert refusal_of(stack(levels(*distances))).code == code


def test_more_voxels_than_the_limit_are_refused() -> None:
    limits = ReadLimits(max_voxels=5 * 512 * 512 - 1)
    assert refusal_of(stack(evenly(5)), limits=limits).code == "image-too-large"
    assert find_candidates(stack(evenly(4)), limits).usable


def test_the_refusal_is_that_of_the_largest_ct_series() -> None:
    headers = [
        *stack(evenly(2), series_uid="1", localizer=True),
        *stack(levels(3.0, 3.0, 6.0, 3.0), series_uid="2"),
        *stack(evenly(30), series_uid="3", modality="MR"),
    ]
    assert refusal_of(headers).code == "missing-slices"
    assert refusal_of([]).code == "no-ct-series"


def study() -> list[SliceHeader]:
    return [
        *stack(evenly(2), series_uid="scout", localizer=True, content="scout"),
        *stack(evenly(120), series_uid="arterial", phase="arterial", content="arterial"),
        *stack(evenly(120), series_uid="portal", phase="portal_venous", content="portal"),
        *stack(evenly(400, 0.9), series_uid="lung", phase="portal_venous", sharp_kernel=True, content="lung"),
        *stack(evenly(40, 9.0), series_uid="mip", phase="portal_venous", derived=True, content="mip"),
        *stack(levels(3.0, 3.0, 9.0, 3.0), series_uid="gap", content="gap"),
        *stack(evenly(9), series_uid="mr", modality="MR", content="mr"),
    ]


def test_the_best_series_is_chosen_and_each_says_why_or_why_not() -> None:
    choice = chosen(study())
    assert reasons(choice) == {
        "scout": "localizer",
        "arterial": "lower-score",
        "portal": "selected",
        "lung": "lower-score",
        "mip": "lower-score",
        "gap": "missing-slices",
        "mr": "not-ct",
    }
    assert [summary.series_uid for summary in choice.summaries if summary.selected] == ["portal"]
    by_uid = {summary.series_uid: summary for summary in choice.summaries}
    assert by_uid["portal"].phase == "portal_venous"
    assert by_uid["portal"].series_id == choice.candidate.series_id
    assert "phase-portal-venous" in by_uid["portal"].score_reasons
    assert by_uid["gap"].score is None
    assert by_uid["gap"].score_reasons == ()
    assert by_uid["gap"].orientation == "axial"
    assert by_uid["gap"].spacing_zyx_mm is None
    assert by_uid["mip"].spacing_zyx_mm == pytest.approx((9.0, 0.8, 0.8))


def test_other_phases_are_named() -> None:
    choice = chosen(study())
    assert codes(choice) == ["other-phases-available"]
    assert choice.warnings[0].detail.endswith("phases: arterial.")


def test_an_ineligible_series_of_another_phase_is_not_offered() -> None:
    headers = study()
    ids = {summary.series_uid: summary.series_id for summary in chosen(headers).summaries}
    assert codes(chosen(headers, shown={ids["arterial"]: seen(None, eligible=False)})) == []


def test_the_choice_and_all_that_is_said_of_it_are_the_same_in_any_order() -> None:
    headers = study()
    expected = chosen(headers)
    for seed in range(5):
        choice = chosen(shuffled(headers, seed))
        assert choice.candidate.slices == expected.candidate.slices
        assert set(choice.summaries) == set(expected.summaries)
        assert choice.warnings == expected.warnings


def test_summaries_come_in_the_order_sent() -> None:
    assert list(reasons(chosen(study()))) == ["scout", "arterial", "portal", "lung", "mip", "gap", "mr"]


def test_pixels_outweigh_what_the_headers_say() -> None:
    neck = stack(evenly(150), series_uid="neck", phase="portal_venous", content="neck")
    body = stack(evenly(80, 5.0), series_uid="body", content="body")
    ids = {one.group.first.series_uid: one.series_id for one in find_candidates([*neck, *body], LIMITS).usable}
    assert chosen([*neck, *body]).candidate.series_id == ids["neck"]

    shown = {ids["neck"]: seen(None, eligible=False), ids["body"]: seen(300)}
    choice = chosen([*neck, *body], shown=shown)
    assert choice.candidate.series_id == ids["body"]
    assert codes(choice) == []


def test_an_ineligible_series_is_taken_when_there_is_no_other() -> None:
    headers = stack(evenly(20))
    only = chosen(headers).candidate.series_id
    choice = chosen(headers, shown={only: seen(None, eligible=False)})
    assert choice.summaries[0].reason == "selected"
    assert choice.summaries[0].score_reasons[0] == "ineligible-by-pixels"


def test_series_that_suit_equally_well_are_told_and_the_longer_one_is_taken() -> None:
    one, two = stack(evenly(150), series_uid="1"), stack(evenly(151), series_uid="2")
    for headers in ([*one, *two], [*two, *one]):
        choice = chosen(headers)
        assert reasons(choice) == {"1": "equal-score", "2": "selected"}
        assert codes(choice) == ["several-candidates"]
        assert choice.warnings[0].detail.startswith("2 CT series")


def test_identical_geometry_is_decided_by_the_id() -> None:
    one, two = stack(evenly(50), series_uid="1", content="a"), stack(evenly(50), series_uid="2", content="b")
    found = {chosen(headers).candidate.series_id for headers in ([*one, *two], [*two, *one])}
    ids = {candidate.series_id for candidate in find_candidates([*one, *two], LIMITS).usable}
    assert found == {min(ids)}


def test_a_clear_winner_is_not_called_ambiguous() -> None:
    choice = chosen([*stack(evenly(150, 3.0), series_uid="thin"), *stack(evenly(90, 5.0), series_uid="thick")])
    assert reasons(choice) == {"thin": "selected", "thick": "lower-score"}
    assert codes(choice) == []


def test_a_larger_unusable_series_is_told() -> None:
    headers = [*stack(levels(*[3.0] * 20, 9.0, *[3.0] * 20), series_uid="gap"), *stack(evenly(10), series_uid="whole")]
    choice = chosen(headers)
    assert reasons(choice) == {"gap": "missing-slices", "whole": "selected"}
    assert codes(choice) == ["larger-series-left-out"]
    assert "missing-slices" in choice.warnings[0].detail
    assert codes(chosen(headers, "whole")) == []


@pytest.mark.parametrize("by", ["series_uid", "series_id"])
def test_a_pinned_series_is_taken_over_a_better_one(by: str) -> None:
    headers = study()
    pins = {summary.series_uid: getattr(summary, by) for summary in chosen(headers).summaries}
    choice = chosen(headers, pins["arterial"])
    assert reasons(choice) == {
        "scout": "localizer",
        "arterial": "pinned",
        "portal": "not-pinned",
        "lung": "not-pinned",
        "mip": "not-pinned",
        "gap": "missing-slices",
        "mr": "not-ct",
    }
    assert [summary.series_uid for summary in choice.summaries if summary.selected] == ["arterial"]
    assert codes(choice) == []
    assert refusal_of(headers, pins["gap"]).code == "missing-slices"
    assert refusal_of(headers, pins["scout"]).code == "localizer"
    assert refusal_of(headers, pins["mr"]).code == "no-ct-series"


def test_a_pin_that_names_nothing_is_refused_without_repeating_it() -> None:
    refusal = refusal_of(study(), "1.2.SECRET")
    assert (refusal.code, int(refusal.status)) == ("no-such-series", 422)
    assert "SECRET" not in str(refusal)


def test_two_phases_under_one_uid_can_be_pinned_one_by_one() -> None:
    arterial = stack(evenly(60), acquired_at_s=100.0, phase="arterial")
    portal = stack(evenly(60), acquired_at_s=140.0, phase="portal_venous")
    choice = chosen([*arterial, *portal], "1.2.3")
    assert choice.candidate.slices == tuple(portal)
    assert [summary.reason for summary in choice.summaries] == ["lower-score", "pinned"]
    assert codes(choice) == ["other-phases-available"]
    assert chosen([*arterial, *portal], choice.summaries[0].series_id).candidate.slices == tuple(arterial)


def test_inseparable_passes_are_refused() -> None:
    assert refusal_of([*stack(evenly(20)), *stack(evenly(20))]).code == "duplicate-slice-positions"


def test_mixed_orientations_leave_the_axial_slices() -> None:
    choice = chosen([*stack(evenly(20)), *stack(evenly(30), orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0))])
    assert [(summary.reason, summary.orientation) for summary in choice.summaries] == [
        ("selected", "axial"),
        ("not-axial", "coronal"),
    ]


def test_a_varying_distance_is_measured_and_told() -> None:
    choice = chosen(stack(levels(*[5.0] * 4, *[2.5] * 6)))
    assert choice.candidate.placement.slice_thickness_mm == pytest.approx([5.0] * 4 + [3.75] + [2.5] * 6)
    assert codes(choice) == ["variable-slice-distance"]
    assert "2.50 to 5.00 mm" in choice.warnings[0].detail
    assert choice.summaries[0].spacing_zyx_mm == pytest.approx((38.75 / 11, 0.8, 0.8))


def test_copies_of_slices_are_told() -> None:
    headers = stack(evenly(5))
    copies = [replace(header, entry=replace(header.entry, digest="f" * 64)) for header in headers[:1]]
    choice = chosen([*headers, *copies])
    assert choice.summaries[0].slice_count == 5
    assert codes(choice) == ["duplicate-slices"]
    assert choice.warnings[0].detail.startswith("1 further copy ")


def test_slices_may_differ_in_rescale() -> None:
    headers = [
        replace(header, rescale=(1.0 + index, -1024.0)) for index, header in enumerate(stack(evenly(5), rescale=None))
    ]
    assert len(chosen(headers).candidate.slices) == 5


def test_a_candidate_refused_after_all_leaves_the_next_best_one() -> None:
    headers = study()
    candidates = find_candidates(headers, LIMITS)
    first = choose(candidates, {}).candidate
    refusal = refusal_of([])
    left = candidates.without(first.series_id, refusal)
    choice = choose(left, {})
    assert reasons(choice)["portal"] == "no-ct-series"
    assert reasons(choice)["arterial"] == "selected"

    pinned = find_candidates(headers, LIMITS, first.series_id)
    with pytest.raises(InputError) as raised:
        pinned.without(first.series_id, refusal)
    assert raised.value is refusal
