"""Which slices of a study are read together."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

BLEEDING_SHARE = 2 / 3
"""Of the slices that are read, those in which active bleeding is looked for."""
BLEEDING_GAP_MM = 4.0
"""Less far apart they show the same jet of contrast."""


def select_slices(
    suspicion: NDArray[np.float32],
    threshold: float,
    budget: int,
    *,
    bleeding: NDArray[np.floating] | None = None,
    positions_mm: NDArray[np.floating] | None = None,
) -> list[int]:
    """The slices to read, all at or above the threshold, in anatomical order; never none.

    The most suspicious one comes first. ``bleeding``, (slices,), is how well each slice fits the statement on active
    bleeding: up to `BLEEDING_SHARE` of the ``budget`` goes to those that fit best, with more than `BLEEDING_GAP_MM`
    between them where ``positions_mm`` are known, because a jet shows in few slices, and where much blood lies all are
    suspicious alike. The rest are the most suspicious ones, spread out: a slice is passed over while one within the gap
    is already taken. That gap is a third of a fair share of the stack, and halved when no candidate is left. Of slices
    that are equally suspicious, to three decimals, the one farthest from those taken goes first.
    """
    candidates = [int(index) for index in np.flatnonzero(suspicion >= threshold)] or [int(np.argmax(suspicion))]
    taken: list[int] = []
    if bleeding is not None:
        wanted = [int(np.argmax(suspicion)), *sorted(candidates, key=lambda index: -float(bleeding[index]))]
        taken = first_apart(wanted, min(int(BLEEDING_SHARE * budget) + 1, budget), _gap_between(positions_mm))
    return sorted(_with_suspicious(taken, candidates, np.round(suspicion, 3), min(budget, len(candidates)), budget))


def first_apart(wanted: Iterable[int], count: int, apart: Callable[[int, int], bool]) -> list[int]:
    """At most ``count`` of them, in their order: each that is apart from those before it."""
    result: list[int] = []
    for index in wanted:
        if len(result) < count and all(apart(index, other) for other in result):
            result.append(index)
    return result


def _gap_between(positions_mm: NDArray[np.floating] | None) -> Callable[[int, int], bool]:
    def apart(one: int, other: int) -> bool:
        if positions_mm is None:
            return one != other
        return abs(float(positions_mm[one] - positions_mm[other])) > BLEEDING_GAP_MM

    return apart


def _with_suspicious(
    taken: Sequence[int], candidates: Sequence[int], suspicion: NDArray[np.float32], count: int, budget: int
) -> list[int]:
    result, slices = list(taken), len(suspicion)
    gap = max(1, slices // (3 * budget))
    while len(result) < count:
        apart = [index for index in candidates if all(abs(index - other) > gap for other in result)]
        if apart:
            most = max(suspicion[index] for index in apart)
            result.append(_farthest([index for index in apart if suspicion[index] == most], result, slices))
        else:
            gap //= 2
    return result


def _farthest(indices: list[int], taken: list[int], count: int) -> int:
    """The index farthest from its nearest taken one; with none taken the most central one."""
    if not taken:
        return min(indices, key=lambda index: abs(index - (count - 1) / 2))
    return max(indices, key=lambda index: min(abs(index - other) for other in taken))
