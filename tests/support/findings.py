"""Findings of a reading, made by hand."""

from trauma_api.schemas.analysis import OrganFinding, OrganGrade, Presence, PresenceFinding


def organ(value: OrganGrade, probability: float = 0.8) -> OrganFinding:
    """A finding of a solid organ."""
    return OrganFinding(value=value, probability=probability, probabilities={value: probability})


def seen(value: Presence, probability: float = 0.8) -> PresenceFinding:
    """A finding that is there or not."""
    return PresenceFinding(value=value, probability=probability, probabilities={value: probability})
