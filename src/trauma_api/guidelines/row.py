"""What a row of the table is, and the conditions that many rows share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trauma_api.guidelines.sources import Source

Condition = Mapping[str, frozenset[str]]
Disposition = Literal["urgent_laparotomy", "operation", "operation_or_angiography", "nonoperative"]


@dataclass(frozen=True)
class Row:
    """One recommendation. ``disposition`` is what it comes down to, None for what qualifies or supports others.

    It fires where one of ``any_of`` holds and none of ``unless`` does.
    """

    id: str
    source: Source
    level: str
    statement: str
    any_of: tuple[Condition, ...]
    disposition: Disposition | None = None
    unless: tuple[Condition, ...] = ()
    confirmed: bool = True
    """Whether statement and level were read at the source. A row that is not never fires."""


def when(**inputs: str) -> Condition:
    """``when(spleen="low_grade high_grade")``: values are separated by spaces."""
    return {name: frozenset(values.split()) for name, values in inputs.items()}


INJURED = "low_grade high_grade"
STABLE = {"hemodynamic_status": "stable", "peritonitis": "absent"}
BLUNT_STABLE = {**STABLE, "mechanism": "blunt"}
EXTRAVASATION = {"active_extravasation": "present"}
PELVIS = {"pelvic_fracture": "present"}
NOT_HOLDING = {"hemodynamic_status": "transient_responder unstable"}
"""Unstable, or stable only for a time."""
