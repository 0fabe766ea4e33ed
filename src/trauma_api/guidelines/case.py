"""What the rules look at: closed values, each of which may be unknown."""

from dataclasses import dataclass
from typing import Literal

Grade = Literal["none", "low_grade", "high_grade", "not_assessed"]
Presence = Literal["absent", "present", "not_assessed"]
Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Case:
    """Physiology and findings of one patient. Low grade is AAST I to III, high grade IV and V."""

    hemodynamic_status: Literal["stable", "transient_responder", "unstable", "unknown"] = "unknown"
    peritonitis: Literal["present", "absent", "unknown"] = "unknown"
    mechanism: Literal["blunt", "penetrating", "unknown"] = "unknown"
    fast: Literal["positive", "negative", "indeterminate", "unknown"] = "unknown"
    older_than_55: Answer = "unknown"
    liver: Grade = "not_assessed"
    spleen: Grade = "not_assessed"
    kidneys: Grade = "not_assessed"
    bowel_and_mesentery: Presence = "not_assessed"
    active_extravasation: Presence = "not_assessed"
    hemoperitoneum: Literal["none", "small", "moderate", "large", "not_assessed"] = "not_assessed"


NEEDED_FOR_DISPOSITION = ("hemodynamic_status", "peritonitis", "mechanism")
"""While one of these is unknown no disposition is given."""


def needed(case: Case) -> tuple[str, ...]:
    """The inputs that a disposition waits for."""
    return tuple(name for name in NEEDED_FOR_DISPOSITION if getattr(case, name) == "unknown")
