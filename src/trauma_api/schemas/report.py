"""The report: typed sections, whose numbers come from the results and whose prose comes from the model."""

from typing import Annotated, Literal

from pydantic import Field

from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.base import Result, Schema, SliceIndex, StudyId
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.volume import VolumeResult

SectionName = Literal[
    "indication",
    "physiology",
    "technique",
    "findings",
    "quantification",
    "impression",
    "recommendations",
    "follow_up",
    "limits",
]
EvidenceKind = Literal["study", "slice", "finding", "measurement", "input", "score", "rule"]


class ReportRequest(Schema):
    """Results to report on. At least one of findings and volume is needed; what is left out is named as missing."""

    study_id: StudyId
    findings: Findings | None = None
    slice_indices: Annotated[list[SliceIndex], Field(max_length=85)] | None = Field(
        default=None, description="The slices that the findings were read from, as `POST /v1/analysis` states them."
    )
    volume: VolumeResult | None = None
    vitals: Vitals | None = None
    clinical_context: ClinicalContext | None = None


class Evidence(Schema):
    """What a sentence rests on."""

    kind: EvidenceKind
    name: str = Field(
        description="The slice's index, the finding's or measurement's field, the input's name, or the id of a rule."
    )


class Statement(Schema):
    """A sentence that the service wrote from the results; every number in it comes from one of them."""

    text: str
    evidence: list[Evidence]


class ProseSentence(Schema):
    """A sentence that the model wrote, or what stands in its place because it failed the check against the results."""

    text: str = Field(description="As shown, numbers filled in; empty where the sentence was left out.")
    outcome: Literal["as_written", "rewritten", "replaced", "left_out"] = Field(
        description="`rewritten`: the model's second attempt; `replaced`: a statement of the service stands here; "
        "`left_out`: it was about no fact."
    )
    reasons: list[str] = Field(description="Why the first attempt failed; stable, kebab-case; empty otherwise.")
    evidence: list[Evidence]


class ReportSection(Schema):
    """One section: statements that the service made from the results, and prose by the model."""

    name: SectionName
    statements: list[Statement]
    prose: list[ProseSentence] | None = Field(
        description="Written by the model from the statements and checked against them; null where it writes none."
    )
    writer: Literal["service", "service_and_model"]


class Recommendation(Schema):
    """One recommendation of a guideline that the inputs fired. For the treating team to judge, not an order."""

    id: str
    source: str = Field(description="The guideline's short name, by which the report's lines cite it.")
    guideline: str
    level: str = Field(description="As the guideline grades it.")
    statement: str = Field(description="In this project's words.")
    citation: str
    url: str
    inputs: list[str] = Field(description="What fired it, as name=value.")
    disposition: Literal["urgent_laparotomy", "operation", "operation_or_angiography", "nonoperative"] | None = Field(
        description="What it comes down to; null where it only qualifies others."
    )


class PhysiologyScore(Schema):
    """A score by a published formula, from given values alone. It picks no disposition."""

    name: str
    low: float = Field(description="The value; where inputs are missing, the lowest that it can be.")
    high: float = Field(description="The value; where inputs are missing, the highest that it can be.")
    meaning: str
    definition: str
    source: str = Field(description="A short name, by which the report's lines cite it.")
    citation: str
    url: str
    inputs: list[str]
    missing: list[str]


class Hemodynamics(Schema):
    """The hemodynamic status that the rules were given, and where it comes from."""

    status: Literal["stable", "transient_responder", "unstable", "unknown"]
    origin: Literal["given", "derived", "unknown"]
    definition: str | None = Field(description="Of a derived status: the published definition that the vitals meet.")
    citation: str | None
    url: str | None
    inputs: list[str] = Field(description="What it was derived from, as name=value.")


class ReportResult(Result):
    """A report in sections."""

    study_id: str
    sections: list[ReportSection]
    hemodynamics: Hemodynamics
    physiology: list[PhysiologyScore]
    recommendations: list[Recommendation]
    needed_for_disposition: list[str] = Field(
        description="Inputs without which no disposition is given, because physiology comes before CT findings."
    )
    missing: list[str] = Field(description="Inputs and results that the report had to do without.")
