"""Physiology by published formulas. A score without its inputs is not computed; a range is told where some are missing.

None of them is computed from millilitres on a CT, and none picks a disposition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trauma_api.guidelines.sources import ABC_2009, ATLS_10, SHOCK_INDEX_2013, Source

_SHOCK_INDEX_CLASSES = (
    (0.6, "no shock"),
    (1.0, "mild"),
    (1.4, "moderate, prepare transfusion"),
    (float("inf"), "severe, prepare massive transfusion"),
)
_BASE_DEFICIT_CLASSES = ((2.0, "class I"), (6.0, "class II"), (10.0, "class III"), (float("inf"), "class IV"))
_ABC_SYSTOLIC_MMHG, _ABC_HEART_RATE_BPM, _ABC_LIKELY_FROM = 90.0, 120.0, 2


@dataclass(frozen=True)
class Score:
    """A value, or the lowest and highest that it can have; what it means; and what it was computed from."""

    name: str
    low: float
    high: float
    meaning: str
    definition: str
    source: Source
    inputs: tuple[str, ...]
    missing: tuple[str, ...]


def shock_index(heart_rate_bpm: float | None, systolic_mmhg: float | None) -> Score | None:
    """Heart rate over systolic pressure, with the class of Mutschler 2013. None without both, or without a pressure."""
    if heart_rate_bpm is None or not systolic_mmhg:
        return None
    value = heart_rate_bpm / systolic_mmhg
    return Score(
        name="shock_index",
        low=value,
        high=value,
        meaning=_class_below(value, _SHOCK_INDEX_CLASSES),
        definition="heart rate / systolic pressure; classes below 0.6, 1.0 and 1.4",
        source=SHOCK_INDEX_2013,
        inputs=("heart_rate_bpm", "systolic_mmhg"),
        missing=(),
    )


def base_deficit_class(base_deficit_mmol_l: float | None) -> Score | None:
    """The class of ATLS 10 by base deficit alone; an excess (negative) is class I. None without a base deficit.

    A value on a border belongs to the lower class; the table's ranges share their borders.
    """
    if base_deficit_mmol_l is None:
        return None
    limit = next(name for top, name in _BASE_DEFICIT_CLASSES if base_deficit_mmol_l <= top)
    return Score(
        name="base_deficit_class",
        low=base_deficit_mmol_l,
        high=base_deficit_mmol_l,
        meaning=limit,
        definition="base deficit up to 2, 6 and 10 mmol/L; by base deficit alone",
        source=ATLS_10,
        inputs=("base_deficit_mmol_l",),
        missing=(),
    )


def abc_score(mechanism: str, fast: str, systolic_mmhg: float | None, heart_rate_bpm: float | None) -> Score | None:
    """ABC score for massive transfusion, 0 to 4; a range where inputs are missing. None where all are."""
    points = {
        "mechanism": {"penetrating": 1, "blunt": 0}.get(mechanism),
        "fast": {"positive": 1, "negative": 0}.get(fast),
        "systolic_mmhg": None if systolic_mmhg is None else int(systolic_mmhg <= _ABC_SYSTOLIC_MMHG),
        "heart_rate_bpm": None if heart_rate_bpm is None else int(heart_rate_bpm >= _ABC_HEART_RATE_BPM),
    }
    known = {name: value for name, value in points.items() if value is not None}
    if not known:
        return None
    low = sum(known.values())
    high = low + len(points) - len(known)
    return Score(
        name="abc_score",
        low=low,
        high=high,
        meaning=_abc_meaning(low, high),
        definition="1 point each: penetrating, FAST positive, systolic pressure <= 90 mmHg, heart rate >= 120",
        source=ABC_2009,
        inputs=tuple(known),
        missing=tuple(name for name in points if name not in known),
    )


def _abc_meaning(low: int, high: int) -> str:
    if low >= _ABC_LIKELY_FROM:
        return "2 or more: massive transfusion likely (sensitivity 75 %, specificity 86 %)"
    if high < _ABC_LIKELY_FROM:
        return "below 2: massive transfusion less likely"
    return "not decided: missing inputs could bring it to 2"


def _class_below(value: float, classes: Sequence[tuple[float, str]]) -> str:
    return next(name for top, name in classes if value < top)
