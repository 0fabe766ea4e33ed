"""Slices of one series on one grid belong together, and passes over the body are told apart."""

from dataclasses import replace
from typing import Any

import pytest

from tests.imaging.slice_records import evenly, record, shuffled, stack
from trauma_api.imaging.grouping import SliceGroup, group_slices
from trauma_api.imaging.slices import SliceHeader


def sizes(headers: list[SliceHeader]) -> list[int]:
    return [len(group.slices) for group in group_slices(headers)]


def content(groups: list[SliceGroup]) -> set[tuple[str, int, int]]:
    return {(group.series_id, len(group.slices), group.copies) for group in groups}


def test_series_are_kept_apart_in_the_order_of_their_first_slices() -> None:
    one, two = stack(evenly(4), series_uid="1"), stack(evenly(3), series_uid="2")
    mixed = [two[0], *one, *two[1:]]
    assert [group.first.series_uid for group in group_slices(mixed)] == ["2", "1"]
    assert sizes(mixed) == [3, 4]


@pytest.mark.parametrize(
    "other",
    [
        {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)},
        {"orientation": (1.0, 0.0, 0.0, 0.0, 0.999962, -0.0087)},
        {"orientation": None},
        {"spacing_yx_mm": (0.9, 0.8)},
        {"rows": 256},
        {"frame_of_reference_uid": "1.2.10"},
        {"frame_of_reference_uid": None},
        {"localizer": True},
        {"one_grey_channel": False},
        {"rescale_type": "mg/ml"},
        {"modality": "MR"},
    ],
)
def test_another_grid_or_kind_within_a_series_is_a_group_of_its_own(other: dict[str, Any]) -> None:
    assert sizes([*stack(evenly(5)), *stack(evenly(2, start_mm=50), **other)]) == [5, 2]


def test_rounding_of_the_orientation_and_spacing_is_no_other_grid() -> None:
    headers = [
        replace(header, orientation=(1.0, 1e-4 * index, 0.0, -1e-4 * index, 1.0, 0.0), spacing_yx_mm=(0.8, 0.8 + 1e-4))
        for index, header in enumerate(stack(evenly(10)))
    ]
    assert sizes([*headers, *stack(evenly(2, start_mm=60))]) == [12]


def test_a_drifting_orientation_is_cut_into_groups_that_are_each_alike() -> None:
    drift = [
        replace(header, orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 9e-4 * index))
        for index, header in enumerate(stack(evenly(9)))
    ]
    assert sizes(drift) == [3, 3, 3]


def two_phases(**second: Any) -> list[SliceHeader]:
    return [
        *stack(evenly(6), acquired_at_s=100.0),
        *stack(evenly(4, start_mm=3.0), **{"acquired_at_s": 100.0, **second}),
    ]


@pytest.mark.parametrize(
    "second",
    [
        {"temporal_index": 2},
        {"stack_id": "2"},
        {"acquisition_number": 2},
        {"acquired_at_s": 140.0},
        {"phase": "portal_venous"},
        {"contrast_agent": True},
        {"derived": True},
        {"sharp_kernel": True},
        {"thickness_mm": 1.0},
        {"rescale": (1.0, -8192.0)},
    ],
)
def test_two_passes_in_one_series_are_told_apart_by_what_differs(second: dict[str, Any]) -> None:
    headers = two_phases(**second)
    assert sizes(headers) == [6, 4]
    assert sorted(sizes(shuffled(headers))) == [4, 6]


def test_what_differs_splits_nothing_that_has_no_position_twice() -> None:
    # Step and shoot: each rotation has its number and its time.
    headers = [
        replace(header, acquisition_number=index // 4, acquired_at_s=100.0 + index // 4, thickness_mm=3.0 + index % 2)
        for index, header in enumerate(stack(evenly(16)))
    ]
    assert sizes(headers) == [16]


def test_passes_with_a_time_of_each_slice_are_cut_at_the_long_pause() -> None:
    arterial = [replace(header, acquired_at_s=100.0 + index) for index, header in enumerate(stack(evenly(10)))]
    # The second pass starts above the first, where the first has no slices, so positions alone would not do.
    portal = [
        replace(header, acquired_at_s=140.0 + index)
        for index, header in enumerate(stack(evenly(20, start_mm=-15.0), content="portal"))
    ]
    headers = shuffled([*arterial, *portal])
    assert {frozenset(header.entry.digest for header in group.slices) for group in group_slices(headers)} == {
        frozenset(header.entry.digest for header in arterial),
        frozenset(header.entry.digest for header in portal),
    }


def test_rotations_of_two_passes_are_not_taken_for_passes() -> None:
    # Each rotation of four slices has a number; all numbers differ, but only the pause separates the passes.
    headers = [
        replace(header, acquisition_number=10 * number + index // 4, acquired_at_s=start + index // 4)
        for number, start in ((1, 100.0), (2, 160.0))
        for index, header in enumerate(stack(evenly(24)))
    ]
    assert sizes(headers) == [24, 24]


def test_three_passes_that_overlap_in_pairs_are_three_groups() -> None:
    headers = [
        header
        for number, start_mm in ((1, 0.0), (2, 15.0), (3, 45.0))
        for header in stack(evenly(12, start_mm=start_mm), acquisition_number=number)
    ]
    assert sizes(headers) == [12, 12, 12]


def test_inseparable_passes_stay_together() -> None:
    assert sizes(two_phases()) == [10]


def test_copies_of_a_slice_count_once_whatever_their_order() -> None:
    headers = stack(evenly(5), content="original")
    copies = [
        replace(header, entry=replace(header.entry, digest=f"{index:064x}")) for index, header in enumerate(headers[:2])
    ]
    (group,) = group_slices([*headers, *copies])
    assert (len(group.slices), group.copies) == (5, 2)
    assert content(group_slices([*copies, *headers])) == content([group])


def test_of_copies_the_lossless_one_is_kept() -> None:
    first, second = stack(evenly(2))
    lossy = replace(first, entry=replace(first.entry, digest="0" * 64), lossy=True)
    (group,) = group_slices([lossy, first, second])
    assert not group.lossy


def test_one_identifier_at_many_positions_makes_no_copies() -> None:
    # Two passes after an anonymiser gave every file one SOPInstanceUID: dropping "copies" would mix the passes.
    assert sizes(stack([*evenly(5), *evenly(5)], instance_uid="1.1")) == [10]
    passes = [*stack(evenly(5), instance_uid="1.1"), *stack(evenly(5), instance_uid="1.1", acquisition_number=2)]
    assert sizes(passes) == [5, 5]


def test_one_identifier_of_two_passes_makes_no_copies() -> None:
    pairs = [
        record((0, 0, -3.0 * index), instance_uid=f"1.{index}", acquisition_number=number)
        for index in range(5)
        for number in (1, 2)
    ]
    assert sizes(pairs) == [5, 5]


def test_the_id_is_of_the_content_and_not_of_order_or_names() -> None:
    headers = stack(evenly(5), content="a")
    again = stack(evenly(5), content="a", instance_uid=None)[::-1]
    (group,), (same,) = group_slices(headers), group_slices(again)
    assert len(group.series_id) == 12
    assert set(group.series_id) <= set("0123456789abcdef")
    assert same.series_id == group.series_id
    (other,) = group_slices(headers[:4])
    assert other.series_id != group.series_id


def test_frames_of_one_file_are_slices_of_their_own() -> None:
    frames = [
        record((0, 0, -3.0 * frame), frame=frame, content="enhanced", instance_uid="1.1", temporal_index=phase)
        for phase in (1, 2)
        for frame in range(phase, phase + 4)
    ]
    frames = [replace(header, frame=index) for index, header in enumerate(frames)]
    assert sizes(frames) == [4, 4]


def test_facts_of_a_group_sum_up_its_slices() -> None:
    agreed = group_slices(
        [*stack([0], phase="arterial", sharp_kernel=False), *stack([3], phase="unknown", sharp_kernel=False)]
    )[0]
    assert (agreed.phase, agreed.sharp_kernel, agreed.contrast_agent) == ("arterial", False, None)
    mixed = group_slices(
        [*stack([0], phase="arterial", sharp_kernel=True, lossy=True), *stack([3], phase="delayed", derived=True)]
    )[0]
    assert (mixed.phase, mixed.sharp_kernel, mixed.lossy, mixed.derived) == ("unknown", True, True, True)
