"""Whether the pixels of a CT series show an abdomen, and how much of it, whatever its tags say.

A patient who is wrongly abstained from is worse off than one with a warning. So a series is ineligible only where its
slices show something else for certain; whatever cannot be told apart is eligible with a warning.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from trauma_api.imaging.anatomy import BodyStats, SliceStats
from trauma_api.imaging.study import Coverage, Eligibility, StudyWarning

Region = Literal["head", "neck", "chest", "abdomen", "hips", "legs", "unknown"]
"""Neck: with the shoulders. Abdomen: down to the sacrum. Hips: below it."""

_LOOK_EVERY_MM = 5.0

# Values. The real CTs of the tests have at least 0.34 of pixels below -50 HU, 0.76 of tissue within 250 HU of water
# (heads; trunks 0.84) and at most 0.11 of tissue above 700 HU (heads; trunks 0.02).
_LEAST_NEGATIVE_SHARE = 0.005
_LEAST_PLAUSIBLE_SHARE = 0.6
_MOST_DENSE_SHARE = 0.25
# A display window cuts air off, so that its lower end is frequent. And no CT of a large field is without air in or
# around the body; a projection is.
_NO_AIR_ABOVE_HU = -300.0
_CUT_OFF_SHARE = 0.02
_LARGE_FIELD_CM2 = 900.0
# Air and a table have 0.05 of values between air and tissue; a picture whose values were shifted into air has more.
_MOST_BETWEEN_SHARE = 0.2
_AIR_BELOW_HU = -900.0

_LEAST_BODY_CM2 = 10.0
_LEAST_BODY_OF_FIELD = 0.3

# Of the slices taken for abdomen, how many must show it for the coverage to be believed.
_RECOGNISED_SHARE = 0.25
# "No abdomen" is believed only where at least half of all slices show another region for certain and few look like
# abdomen, whatever their order.
_ANOTHER_REGION_SHARE = 0.5
_CONTRADICTING_SHARE = 0.2
# From the acetabular roof to the pubic symphysis, to the width of the body: 75 mm to 363 mm in the CT of the pelvis.
_HIPS_TO_WIDTH = 0.2

_ORDER: tuple[Region, ...] = ("head", "neck", "chest", "abdomen", "hips", "legs")
# What it costs, in slices, to take a slice in which nothing was recognised for a region: lungs are hardly missed, and
# the abdomen has the benefit of the doubt.
_COST_OF_UNKNOWN: Mapping[Region, float] = MappingProxyType(
    {"head": 0.05, "neck": 0.01, "chest": 0.3, "abdomen": 0.0, "hips": 0.05, "legs": 0.05}
)
_COST_OF_MISTAKE = 1.0
_COST_OF_LEAP = 3.0

_TRUNK: tuple[Region, ...] = ("abdomen", "hips")

_NOTHING_SEEN = Coverage(None, None, None, None)

_HU_IMPLAUSIBLE = StudyWarning(
    "hu-implausible",
    "The values are not Hounsfield units of air, fat and soft tissue, so nothing was scored. "
    "Send the original CT series from the scanner, not a screenshot, map or converted copy.",
)
_NO_BODY = StudyWarning(
    "no-body",
    "Nothing in the images has the Hounsfield units of a body, so nothing was scored. "
    "Send the original CT series that shows the patient.",
)
_NOT_ABDOMEN = StudyWarning(
    "not-abdomen",
    "The images show another region of the body and no abdomen, so nothing was scored. Send the abdominal CT series.",
)
_REGION_UNCERTAIN = StudyWarning(
    "region-uncertain",
    "Whether the images show the abdomen, and how much of it, could not be told. "
    "Check that this is the right series; injuries outside the images cannot be excluded.",
)
_INCOMPLETE_TOP = StudyWarning(
    "abdomen-incomplete-top",
    "The images do not reach above the diaphragm, so the upper abdomen is not shown completely. "
    "Injuries there, of the liver and spleen above all, cannot be excluded.",
)
_INCOMPLETE_BOTTOM = StudyWarning(
    "abdomen-incomplete-bottom",
    "The images do not reach below the hips, so the abdomen and pelvis are not shown completely. "
    "Injuries and blood there cannot be excluded.",
)


def slices_to_look_at(slice_centres_mm: Sequence[float], at_most: int | None = None) -> tuple[int, ...]:
    """Indices of the slices worth analysing: about every 5 mm, the first and the last among them.

    ``slice_centres_mm`` holds each slice's place along the normal, in order, rising or falling. ``at_most`` (2 or
    more) bounds the number for a quick look; they are then spread evenly.
    """
    if not slice_centres_mm:
        return ()
    first, last = slice_centres_mm[0], slice_centres_mm[-1]
    count = 1 + round(abs(last - first) / _LOOK_EVERY_MM)
    wanted = max(2, count if at_most is None else min(count, at_most))
    sign = 1.0 if last >= first else -1.0
    along = [sign * (centre - first) for centre in slice_centres_mm]
    chosen, index = [], 0
    for number in range(wanted):
        target = along[-1] * number / (wanted - 1)
        while index + 1 < len(along) and abs(along[index + 1] - target) <= abs(along[index] - target):
            index += 1
        chosen.append(index)
    return tuple(dict.fromkeys(chosen))


def assess(
    indices: Sequence[int],
    stats: Sequence[SliceStats],
    slice_centres_mm: Sequence[float],
    slice_thickness_mm: Sequence[float] | None = None,
) -> Eligibility:
    """Judge a series by the slices that were analysed.

    ``stats`` belong to the slices ``indices``, rising, of a stack that runs head to feet. ``slice_centres_mm`` and
    ``slice_thickness_mm`` are of all slices, along the normal; (0.0,) for a single slice. Raises ValueError without
    any slice, or when the lengths differ.
    """
    if not indices or len(indices) != len(stats):
        raise ValueError("each analysed slice has its statistics, and there is at least one")
    reason = _unreadable(stats)
    if reason is not None:
        return Eligibility("ineligible", (reason,), coverage=_NOTHING_SEEN)
    seen = [region_of(one) for one in stats]
    path = _in_anatomical_order(seen)
    trunk = [number for number, region in enumerate(path) if region in _TRUNK]
    if not trunk and _shows_another_region(seen):
        return Eligibility("ineligible", (_NOT_ABDOMEN,), coverage=_NOTHING_SEEN)
    recognised = sum(seen[number] in _TRUNK for number in trunk)
    if recognised < max(1.0, _RECOGNISED_SHARE * len(trunk)):
        return Eligibility("eligible", warnings=(_REGION_UNCERTAIN,), coverage=_NOTHING_SEEN)
    shown = indices[trunk[0]], indices[trunk[-1]]
    top = "chest" in seen[: trunk[0]]
    bottom = "legs" in path[trunk[-1] :] or _hips_complete(path, indices, stats, slice_centres_mm)
    extent = _extent_mm(shown, slice_centres_mm, slice_thickness_mm)
    missing = [warning for warning, shows in ((_INCOMPLETE_TOP, top), (_INCOMPLETE_BOTTOM, bottom)) if not shows]
    return Eligibility("eligible", warnings=tuple(missing), coverage=Coverage(shown, extent, top, bottom))


def region_of(one: SliceStats) -> Region:
    """What one slice shows by itself; ``unknown`` wherever another region could look the same."""
    if one.body is None or not _has_body(one):
        return "unknown"
    return next((region for region, shows in _SIGNS if shows(one.body)), "unknown")


def _shows_another_region(seen: Sequence[Region]) -> bool:
    like_trunk = sum(region in _TRUNK for region in seen)
    other = len(seen) - like_trunk - seen.count("unknown")
    return other >= _ANOTHER_REGION_SHARE * len(seen) and like_trunk < max(1.0, _CONTRADICTING_SHARE * len(seen))


def _unreadable(stats: Sequence[SliceStats]) -> StudyWarning | None:
    """Why the values cannot be those of a CT of a body, judged by the middle of the slices."""
    lowest, highest = min(one.minimum_hu for one in stats), max(one.maximum_hu for one in stats)
    if lowest == highest:
        return _NO_BODY if highest < _AIR_BELOW_HU else _HU_IMPLAUSIBLE
    shown = [one for one in stats if _has_body(one)]
    bodies = [one.body for one in shown if one.body is not None]
    if not bodies:
        between = statistics.median(one.between_share for one in stats)
        return _HU_IMPLAUSIBLE if between > _MOST_BETWEEN_SHARE else _NO_BODY
    no_air = lowest > _NO_AIR_ABOVE_HU and (
        shown[0].field_cm2 > _LARGE_FIELD_CM2
        or statistics.median(one.at_minimum_share for one in shown) > _CUT_OFF_SHARE
    )
    implausible = (
        no_air
        or statistics.median(one.negative_share for one in shown) < _LEAST_NEGATIVE_SHARE
        or statistics.median(body.plausible_share for body in bodies) < _LEAST_PLAUSIBLE_SHARE
        or statistics.median(body.dense_share for body in bodies) > _MOST_DENSE_SHARE
    )
    return _HU_IMPLAUSIBLE if implausible else None


def _has_body(one: SliceStats) -> bool:
    return one.body is not None and one.body.area_cm2 >= min(_LEAST_BODY_CM2, _LEAST_BODY_OF_FIELD * one.field_cm2)


def _is_head(body: BodyStats) -> bool:
    """A closed ring of bone, not wider than deep, around brain. Measured: bone 0.20 to 0.23 (trunks to 0.09)."""
    bone = body.bone
    return (
        bone.share > 0.12
        and bone.sectors > 0.9
        and _flatness(body) < 1.1
        and body.brain_like_share > 0.5
        and body.inner_air_share < 0.15
    )


def _is_neck(body: BodyStats) -> bool:
    """Neck: much spine in the middle, with the airway before it. Shoulders: besides, upper arms far out, no lungs.

    Measured on shoulders: spine at 0.46 to 0.56 of the depth (abdomen 0.60 to 0.78), upper arms 0.008 to 0.016 on each
    side (forearms beside an abdomen 0.005). The neck alone is from anatomy: vertebrae are a tenth of its area.
    """
    bone = body.bone
    if _lung(body) > 0.1 or not 0.4 < bone.midline_down < 0.62 or bone.spine_share < 0.008:
        return False
    shoulders = (
        bone.share > 0.045
        and min(bone.lateral_shares) > 0.007
        and body.right_solid_share < 0.5
        and (_flatness(body) > 2.1 or (_flatness(body) > 1.5 and body.airway_share > 0.001))
    )
    throat = (
        bone.midline_share > 0.03
        and body.at_edge_share < 0.1
        and _flatness(body) < 1.5
        and body.airway_share > 0.003
        and body.inner_air_share < 2 * body.airway_share
    )
    return shoulders or throat


def _is_chest(body: BodyStats) -> bool:
    """Both lungs, and no liver yet. Measured: lungs 0.15 to 0.29; at the liver's dome up to 0.13, and liver 0.4 up."""
    return (
        min(body.lung_right_share, body.lung_left_share) > 0.035
        and _lung(body) > 0.12
        and body.right_solid_share < 0.35
    )


def _is_hips(body: BodyStats) -> bool:
    """Bone on both sides and no spine. Measured: 0.012 to 0.027 on each side; with sacrum, spine is 0.005 up."""
    return (
        min(body.bone.beside_shares) > 0.01
        and body.bone.spine_share < 0.003
        and body.bone.share < 0.15
        and body.inner_air_share < 0.05
        and _flatness(body) > 1.1
    )


def _is_abdomen(body: BodyStats) -> bool:
    """A trunk with its spine behind, or with the liver between the lungs' ends.

    Measured: spine 0.004 to 0.019 at 0.60 to 0.78 of the depth, width to depth 1.2 to 1.7, liver 0.63 to 0.96.
    """
    if not 0.9 < _flatness(body) < 2.3 or body.at_edge_share > 0.6:
        return False
    liver = body.right_solid_share > 0.5
    spine = (
        0.003 < body.bone.spine_share < 0.06
        and 0.58 < body.bone.midline_down < 0.9
        and body.bone.front_share < 0.01
        and (liver or _lung(body) < 0.02)
    )
    return spine or (liver and 0.01 < _lung(body) < 0.2)


def _is_leg(body: BodyStats) -> bool:
    """One of two like pieces, or one piece, with its bone in the middle and no air. From anatomy, not measured."""
    bone = body.bone
    pair = body.second_piece_ratio > 0.5 and bone.share > 0.02 and bone.core_share > 0.6
    single = bone.share > 0.12 and bone.core_share > 0.5 and body.at_edge_share < 0.02
    return (pair or single) and body.inner_air_share < 0.005 and _flatness(body) < 1.5


_SIGNS: tuple[tuple[Region, Callable[[BodyStats], bool]], ...] = (
    ("head", _is_head),
    ("legs", _is_leg),
    ("neck", _is_neck),
    ("chest", _is_chest),
    ("hips", _is_hips),
    ("abdomen", _is_abdomen),
)


def _lung(body: BodyStats) -> float:
    return body.lung_right_share + body.lung_left_share


def _flatness(body: BodyStats) -> float:
    return body.width_mm / body.depth_mm


def _in_anatomical_order(seen: Sequence[Region]) -> list[Region]:
    """The regions from head to feet that contradict the fewest slices, without leaping over a region.

    So a slice that looks like abdomen above the lungs is taken for neck, and one without signs for its neighbours'.
    """
    best: list[tuple[float, list[Region]]] = [(0.0, []) for _ in _ORDER]
    for slice_region in seen:
        best = [
            min(
                (
                    (cost + _COST_OF_LEAP * max(0, here - before - 1) * bool(path) + _cost(slice_region, region), path)
                    for before, (cost, path) in enumerate(best[: here + 1])
                ),
                key=lambda candidate: candidate[0],
            )
            for here, region in enumerate(_ORDER)
        ]
        best = [(cost, [*path, region]) for (cost, path), region in zip(best, _ORDER, strict=True)]
    return min(best, key=lambda candidate: candidate[0])[1]


def _cost(seen: Region, taken_for: Region) -> float:
    if seen == "unknown":
        return _COST_OF_UNKNOWN[taken_for]
    return 0.0 if seen == taken_for else _COST_OF_MISTAKE


def _hips_complete(
    path: Sequence[Region], indices: Sequence[int], stats: Sequence[SliceStats], slice_centres_mm: Sequence[float]
) -> bool:
    """Whether the slices of the hips reach as far as from the hip joints' roof to the pubic symphysis."""
    hips = [number for number, region in enumerate(path) if region == "hips"]
    if not hips:
        return False
    reach_mm = abs(slice_centres_mm[indices[hips[-1]]] - slice_centres_mm[indices[hips[0]]])
    widths_mm = [body.width_mm for number in hips if (body := stats[number].body) is not None]
    return bool(widths_mm) and reach_mm >= _HIPS_TO_WIDTH * statistics.median(widths_mm)


def _extent_mm(
    shown: tuple[int, int], slice_centres_mm: Sequence[float], slice_thickness_mm: Sequence[float] | None
) -> float | None:
    """Outer edge to outer edge; None for a single slice of unknown thickness."""
    first, last = shown
    between = abs(slice_centres_mm[last] - slice_centres_mm[first])
    if slice_thickness_mm is not None:
        return between + (slice_thickness_mm[first] + slice_thickness_mm[last]) / 2
    if len(slice_centres_mm) == 1:
        return None
    return between + abs(slice_centres_mm[-1] - slice_centres_mm[0]) / (len(slice_centres_mm) - 1)
