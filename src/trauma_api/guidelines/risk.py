"""Risk level by hemorrhage volume: this project's own convention.

No guideline has these tiers. Millilitres on a CT are neither blood loss nor a shock class, and pick no disposition.
"""

from typing import Literal

RISK_CONVENTION = "Convention of this project (below 5 mL, 5 to 500 mL, above 500 mL); no guideline defines it."

MODERATE_FROM_ML = 5.0
HIGH_ABOVE_ML = 500.0


def risk_level(volume_ml: float) -> Literal["LOW", "MODERATE", "HIGH"]:
    """LOW below 5 mL, MODERATE from 5 to 500 mL, HIGH above. Raises ValueError for a negative volume."""
    if volume_ml < 0:
        raise ValueError("a volume is not negative")
    if volume_ml < MODERATE_FROM_ML:
        return "LOW"
    return "HIGH" if volume_ml > HIGH_ABOVE_ML else "MODERATE"
