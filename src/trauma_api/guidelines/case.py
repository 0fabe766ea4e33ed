"""What the rules look at: closed values, each of which may be unknown."""

from dataclasses import dataclass
from typing import Literal

Grade = Literal["none", "low_grade", "high_grade", "not_assessed"]
Presence = Literal["absent", "present", "not_assessed"]
Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Case:
    """Physiology and findings of one patient. Low grade is AAST I to III, high grade IV and V.

    The reading assesses neither pelvis nor pancreas and gives an extravasation no site.
    """

    hemodynamic_status: Literal["stable", "transient_responder", "unstable", "unknown"] = "unknown"
    peritonitis: Literal["present", "absent", "unknown"] = "unknown"
    mechanism: Literal["blunt", "penetrating", "unknown"] = "unknown"
    fast: Literal["positive", "negative", "indeterminate", "unknown"] = "unknown"
    older_than_55: Answer = "unknown"
    older_than_60: Answer = "unknown"
    anticoagulated: Answer = "unknown"
    pelvic_fracture: Literal["present", "absent", "unknown"] = "unknown"
    pancreatic_injury: Literal["none", "grade_i_ii", "grade_iii_iv", "grade_v", "unknown"] = "unknown"
    liver: Grade = "not_assessed"
    spleen: Grade = "not_assessed"
    kidneys: Grade = "not_assessed"
    bowel_and_mesentery: Presence = "not_assessed"
    active_extravasation: Presence = "not_assessed"
    hemoperitoneum: Literal["none", "small", "moderate", "large", "not_assessed"] = "not_assessed"
    derived: frozenset[str] = frozenset()
    """The inputs above that were not given but derived from others."""


NEEDED_FOR_DISPOSITION = ("hemodynamic_status", "peritonitis", "mechanism")
"""While one of these is unknown no disposition is given."""


def needed(case: Case) -> tuple[str, ...]:
    """The inputs that a disposition waits for."""
    return tuple(name for name in NEEDED_FOR_DISPOSITION if getattr(case, name) == "unknown")
