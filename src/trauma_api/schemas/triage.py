"""Triage: how suspicious each slice looks, and which slices go on to be read."""

from typing import Annotated

from pydantic import Field

from trauma_api.schemas.base import Probability, Result, Schema, SliceIndex, StudyId
from trauma_api.settings import TriageCandidate


class TriageRequest(Schema):
    """Which study, and from which suspicion a slice counts as suspicious."""

    study_id: StudyId
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class CandidateScore(Schema):
    """How well a slice fits one statement."""

    candidate: TriageCandidate
    logit: float


class SliceScore(Schema):
    """One slice's suspicion and what it comes from."""

    slice_index: SliceIndex
    scored: bool = Field(
        description="False where the model did not look at this slice, but at neighbours within 5 mm: on a CPU, thin "
        "slices are scored coarsely first."
    )
    suspicion: Probability = Field(
        description="Of the slice and, where distances are known, of its neighbours within about 14 mm."
    )
    candidates: list[CandidateScore] = Field(description="Of the slice alone; empty where it was not scored.")


class TriageResult(Result):
    """Suspicion of every slice, and the slices selected for reading."""

    study_id: str
    threshold: float
    slice_budget: int
    suspicious_count: int = Field(description="Slices at or above the threshold.")
    selected_slices: list[SliceIndex] = Field(description="In anatomical order; never empty.")
    slices: list[SliceScore]
