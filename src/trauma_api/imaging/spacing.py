"""Whether slices follow each other evenly, in blocks of different distance, or with slices missing between them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import InputError

SAME_POSITION_MM = 0.01
"""Slices closer than this along their normal lie at the same place."""

_RELATIVE_TOLERANCE = 0.02
_ABSOLUTE_TOLERANCE_MM = 0.05
_ROUNDING_MM = 1e-6
_BLOCK_DISTANCES = 3
_GAP_PASSES = 3


class DuplicateSlicePositionsError(InputError):
    """Two slices lie at the same place."""

    code = "duplicate-slice-positions"
    title = "Slices at the same position"
    public_message = (
        "The series has several slices at the same position and nothing in it tells them apart, so it holds more than "
        "one pass over the body. Send one phase or reconstruction."
    )


class IrregularSpacingError(InputError):
    """Slices do not lie on one grid."""

    code = "irregular-spacing"
    title = "Slices are not evenly spaced"
    public_message = (
        "The slices do not lie on one regular grid, so slices are missing or several scans are mixed. "
        "Send the complete series."
    )


class MissingSlicesError(InputError):
    """There are gaps between the slices."""

    code = "missing-slices"
    title = "Slices are missing"
    public_message = "Slices are missing between the first and the last of the series. Send the complete series."


def is_even(distances_mm: NDArray[np.float64]) -> bool:
    """Whether slices with these distances lie on one even grid; False where the distance varies truthfully.

    Even: every distance is within tolerance of the median (2 % or 0.05 mm, whichever is larger), or every slice is
    within 0.05 mm of an even grid and no two distances differ by more than 0.1 mm, as where positions were rounded to
    tenths of a millimetre.

    Otherwise the distances, head to feet, are cut into runs of equal ones (same tolerance). A run of three or more is a
    block. The distance varies truthfully where there are only blocks, and between two blocks at most one distance that
    lies between theirs (slices that touch: 2.5 mm, then 3.75, then 5).

    A gap is a shorter run whose distance is larger than those of the runs beside it and has room for another slice at
    the smaller of them. Gaps are set aside, three times at most, since one can lie beside another. Where the distances
    left are two or more, and even or in blocks, slices are missing.

    Raises DuplicateSlicePositionsError below 0.01 mm, MissingSlicesError for gaps, and IrregularSpacingError for what
    is none of these.
    """
    if distances_mm.min() < SAME_POSITION_MM:
        raise DuplicateSlicePositionsError
    if _even(distances_mm):
        return True
    gaps: dict[int, int] = {}
    left = np.arange(len(distances_mm))
    for _ in range(_GAP_PASSES):
        found = _gaps(_runs(distances_mm[left]), left)
        gaps |= found
        left = np.setdiff1d(left, list(found))
        if not found:
            break
    rest = distances_mm[left]
    if len(rest) < 2 or not (_even(rest) or _in_blocks(_runs(rest))):
        raise IrregularSpacingError
    if gaps:
        raise MissingSlicesError(_gap_sentence(gaps))
    return False


def thickness_mm(distances_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each slice's own thickness: half the distance to each neighbour; an end slice's one neighbour counts twice."""
    padded = np.concatenate([distances_mm[:1], distances_mm, distances_mm[-1:]])
    return np.asarray((padded[:-1] + padded[1:]) / 2, dtype=np.float64)


@dataclass(frozen=True)
class _Run:
    """Consecutive distances that are equal within tolerance."""

    start: int
    count: int
    mean_mm: float

    @property
    def is_block(self) -> bool:
        return self.count >= _BLOCK_DISTANCES


def _tolerance_mm(distance_mm: float) -> float:
    return max(_RELATIVE_TOLERANCE * distance_mm, _ABSOLUTE_TOLERANCE_MM)


def _even(distances_mm: NDArray[np.float64]) -> bool:
    median = float(np.median(distances_mm))
    if np.abs(distances_mm - median).max() <= _tolerance_mm(median):
        return True
    along = np.concatenate([[0.0], np.cumsum(distances_mm)])
    off = along - np.arange(len(along)) * (along[-1] / len(distances_mm))
    # Rounding moves a slice by the tolerance at most, hence a distance, and the span of all residuals, by twice that.
    return bool(max(np.ptp(off), np.ptp(distances_mm)) <= 2 * _ABSOLUTE_TOLERANCE_MM + _ROUNDING_MM)


def _runs(distances_mm: NDArray[np.float64]) -> list[_Run]:
    runs: list[_Run] = []
    start, total = 0, 0.0
    for index, distance in enumerate(distances_mm.tolist()):
        if index > start:
            mean = total / (index - start)
            if abs(distance - mean) > _tolerance_mm(mean):
                runs.append(_Run(start, index - start, mean))
                start, total = index, 0.0
        total += distance
    if total:
        runs.append(_Run(start, len(distances_mm) - start, total / (len(distances_mm) - start)))
    return runs


def _beside(runs: list[_Run], index: int) -> list[_Run]:
    return [runs[other] for other in (index - 1, index + 1) if 0 <= other < len(runs)]


def _in_blocks(runs: list[_Run]) -> bool:
    for index, run in enumerate(runs):
        if run.is_block:
            continue
        means = [other.mean_mm for other in _beside(runs, index) if other.is_block]
        if run.count > 1 or len(means) < 2 or not min(means) <= run.mean_mm <= max(means):
            return False
    return True


def _gaps(runs: list[_Run], places: NDArray[np.intp]) -> dict[int, int]:
    """By index of the distance, how many slices are missing at least. ``places`` are the indices of the distances."""
    gaps = {}
    for index, run in enumerate(runs):
        means = [other.mean_mm for other in _beside(runs, index)]
        if run.is_block or not means or run.mean_mm <= max(means) + _tolerance_mm(max(means)):
            continue
        if _nearest(run.mean_mm / min(means)) >= 2:
            missing = max(1, _nearest(run.mean_mm / max(means)) - 1)
            gaps.update({int(place): missing for place in places[run.start : run.start + run.count]})
    return gaps


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _gap_sentence(gaps: dict[int, int]) -> str:
    missing, first = sum(gaps.values()), min(gaps)
    count = "1 slice is" if missing == 1 else f"{missing} slices are"
    where = "" if len(gaps) == 1 else f" in {len(gaps)} places, first"
    return (
        f"At least {count} missing{where} between the slices with index {first} and {first + 1} of those sent, counted "
        "from 0 at the head. Send the complete series."
    )
