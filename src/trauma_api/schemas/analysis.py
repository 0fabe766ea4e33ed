"""The reading: what is injured, each closed choice with its probability."""

from typing import Annotated, Literal

from pydantic import Field

from trauma_api.schemas.base import Probability, Result, Schema, SliceIndex, StudyId
from trauma_api.schemas.patient import Vitals

OrganGrade = Literal["none", "low_grade", "high_grade", "not_assessed"]
Presence = Literal["absent", "present", "not_assessed"]
Hemoperitoneum = Literal["none", "small", "moderate", "large", "not_assessed"]
Severity = Literal["none", "mild", "moderate", "severe", "critical"]
InjuryPattern = Literal[
    "no_injury", "isolated_organ", "multiple_organs", "bleeding_without_organ_injury", "indeterminate"
]

Probabilities = Annotated[dict[str, float], Field(description="Probability of each value; they sum to 1.")]


class AnalysisRequest(Schema):
    """Which study, and which slices; without them triage selects."""

    study_id: StudyId
    slice_indices: Annotated[list[SliceIndex], Field(min_length=1, max_length=85)] | None = None
    vitals: Vitals | None = None


class OrganFinding(Schema):
    """Injury grade of a solid organ: low is AAST I to III, high is IV and V."""

    value: OrganGrade
    probability: Probability
    probabilities: Probabilities


class PresenceFinding(Schema):
    """Whether something is there."""

    value: Presence
    probability: Probability
    probabilities: Probabilities


class HemoperitoneumFinding(Schema):
    """Amount of free blood in the belly."""

    value: Hemoperitoneum
    probability: Probability
    probabilities: Probabilities


class SeverityFinding(Schema):
    """How severe the injury looks in all."""

    value: Severity
    probability: Probability
    probabilities: Probabilities


class InjuryPatternFinding(Schema):
    """How the injuries are distributed."""

    value: InjuryPattern
    probability: Probability
    probabilities: Probabilities


class Findings(Schema):
    """What the reader found."""

    liver: OrganFinding
    spleen: OrganFinding
    kidneys: OrganFinding
    bowel_and_mesentery: PresenceFinding
    active_extravasation: PresenceFinding
    hemoperitoneum: HemoperitoneumFinding
    injury_pattern: InjuryPatternFinding
    severity: SeverityFinding
    bleeding_description: str = Field(description="The model's words; holds no numbers.")
    differentials: Annotated[list[str], Field(max_length=5)]


class AnalysisResult(Result):
    """Findings, and the slices that they were read from."""

    study_id: str
    slice_indices: list[SliceIndex]
    findings: Findings
