"""How well a CT series suits the search for abdominal bleeding, 0 to 100, with reasons."""

from dataclasses import dataclass

import numpy as np

from trauma_api.imaging.geometry import Placement
from trauma_api.imaging.grouping import SliceGroup
from trauma_api.imaging.study import Eligibility, Phase


@dataclass(frozen=True)
class Score:
    """``points`` from 0 to 100, and one stable kebab-case reason or more for each part of them."""

    points: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Weights:
    """Points of each part at its best, 100 together."""

    abdomen: float = 28.0
    """How much abdomen the pixels show. The largest part: what is not imaged cannot be found."""
    ends: float = 6.0
    """Dome of the diaphragm and pelvis both in, half each: blood gathers at both ends."""
    original: float = 15.0
    """Reformats resample and projections destroy HU, so an original outweighs any gain in slice distance."""
    phase: float = 15.0
    """Organ lacerations and hemoperitoneum show best against enhanced organs, portal venous above all."""
    slice_distance: float = 10.0
    """Partial volume above, noise and size below the best distance."""
    kernel: float = 8.0
    """Kernels for bone and lung overshoot at edges and are noisy in the range of blood."""
    length: float = 10.0
    """Coverage along the body as the headers have it; matters most where the pixels were not looked at."""
    lossless: float = 4.0
    """Compression with loss shifts HU a little."""
    contrast_agent: float = 4.0
    """A stated contrast agent, for series whose phase is unknown."""


_W = _Weights()
_ABDOMEN_MM = 350.0
"""Dome of the diaphragm to pubic symphysis of most adults is at least this long."""
_LENGTH_MM = 400.0
_SHORT_MM = 150.0
# Arterial finds active bleeding and pelvic vessels but leaves the spleen mottled; delayed shows pooling and urine leaks
# but levels the organs; unknown is most often portal venous, yet nobody says so; non-contrast shows clots only.
_PHASE_SHARE: dict[Phase, float] = {
    "portal_venous": 1.0,
    "arterial": 0.7,
    "delayed": 0.55,
    "unknown": 0.45,
    "non_contrast": 0.0,
}
_DISTANCES_MM = (0.3, 1.0, 3.0, 5.0, 10.0)
_DISTANCE_SHARES = (0.75, 1.0, 1.0, 0.5, 0.0)
_SUB_MM, _FINE_MM, _MEDIUM_MM = 0.95, 3.05, 5.05
_UNKNOWN_SHARE = 0.5
_UNKNOWN_KERNEL_SHARE = 0.7
_INELIGIBLE_SHARE = 0.1
"""Ineligible series lie below 10 and all others at 10 or above."""

_Part = tuple[float, str]


def score(group: SliceGroup, placement: Placement, seen: Eligibility | None = None) -> Score:
    """Score one usable series by its headers, its geometry and what a few of its slices showed, if they were seen."""
    parts = [
        _abdomen(seen),
        *_ends(seen),
        (0.0, "derived") if group.derived else (_W.original, "original"),
        (_W.phase * _PHASE_SHARE[group.phase], f"phase-{group.phase.replace('_', '-')}"),
        _slice_distance(placement),
        _kernel(group.sharp_kernel),
        _length(placement),
        (0.0, "lossy") if group.lossy else (_W.lossless, "lossless"),
        _contrast_agent(group.contrast_agent),
    ]
    ineligible = seen is not None and seen.status == "ineligible"
    points = sum(value for value, _ in parts)
    points = points * _INELIGIBLE_SHARE * 0.99 if ineligible else 100 * _INELIGIBLE_SHARE + points * 0.9
    reasons = (*(["ineligible-by-pixels"] if ineligible else []), *(reason for _, reason in parts))
    return Score(round(points, 1), reasons)


def _abdomen(seen: Eligibility | None) -> _Part:
    if seen is None or seen.coverage is None:
        return _W.abdomen * _UNKNOWN_SHARE, "abdomen-not-checked"
    if seen.coverage.abdomen_slices is None:
        return 0.0, "no-abdomen-seen"
    extent = seen.coverage.abdomen_extent_mm
    if extent is None:
        return _W.abdomen * _UNKNOWN_SHARE, "abdomen-extent-unknown"
    share = min(1.0, extent / _ABDOMEN_MM)
    return _W.abdomen * share, "abdomen-seen" if share == 1.0 else "abdomen-partly-seen"


def _ends(seen: Eligibility | None) -> list[_Part]:
    coverage = seen.coverage if seen else None
    top, bottom = (coverage.top_included, coverage.bottom_included) if coverage else (None, None)
    return [_end(top, "top"), _end(bottom, "bottom")]


def _end(included: bool | None, name: str) -> _Part:
    if included is None:
        return _W.ends / 2 * _UNKNOWN_SHARE, f"{name}-not-checked"
    return (_W.ends / 2, f"{name}-included") if included else (0.0, f"{name}-cut-off")


def _slice_distance(placement: Placement) -> _Part:
    if placement.spacing_zyx_mm is None:
        return 0.0, "slice-distance-unknown"
    distance = placement.spacing_zyx_mm[0]
    points = _W.slice_distance * float(np.interp(distance, _DISTANCES_MM, _DISTANCE_SHARES))
    if distance < _SUB_MM:
        return points, "slice-distance-sub-mm"
    if distance <= _FINE_MM:
        return points, "slice-distance-fine"
    return points, "slice-distance-medium" if distance <= _MEDIUM_MM else "slice-distance-coarse"


def _kernel(sharp: bool | None) -> _Part:
    if sharp is None:
        return _W.kernel * _UNKNOWN_KERNEL_SHARE, "kernel-unknown"
    return (0.0, "kernel-sharp") if sharp else (_W.kernel, "kernel-soft")


def _length(placement: Placement) -> _Part:
    slice_mm = placement.spacing_zyx_mm[0] if placement.spacing_zyx_mm else 0.0
    length = placement.slice_centres_mm[-1] + slice_mm
    points = _W.length * min(1.0, length / _LENGTH_MM)
    if length >= _LENGTH_MM:
        return points, "length-full"
    return points, "length-partial" if length >= _SHORT_MM else "length-short"


def _contrast_agent(stated: bool | None) -> _Part:
    if stated is None:
        return _W.contrast_agent * _UNKNOWN_SHARE, "contrast-agent-unknown"
    return (_W.contrast_agent, "contrast-agent-stated") if stated else (0.0, "no-contrast-agent")
