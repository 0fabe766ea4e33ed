"""The report: typed sections, whose numbers come from the results and whose prose comes from the model."""

from typing import Literal

from pydantic import Field

from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.base import Result, Schema, StudyId
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.volume import VolumeResult

SectionName = Literal["indication", "technique", "findings", "impression", "follow_up"]


class ReportRequest(Schema):
    """Results to report on. At least one of findings and volume is needed; what is left out is named as missing."""

    study_id: StudyId
    findings: Findings | None = None
    volume: VolumeResult | None = None
    vitals: Vitals | None = None
    clinical_context: ClinicalContext | None = None


class ReportSection(Schema):
    """One section: statements that the service filled in from the results, and prose by the model."""

    name: SectionName
    statements: list[str] = Field(description="Written by the service; every number comes from a result.")
    prose: str | None = Field(description="Written by the model from the statements; null where it writes none.")
    writer: Literal["service", "service_and_model"]


class Recommendation(Schema):
    """One recommendation of a guideline that the inputs fired. For the treating team to judge, not an order."""

    id: str
    guideline: str
    level: str = Field(description="As the guideline grades it.")
    statement: str = Field(description="In this project's words.")
    citation: str
    url: str
    inputs: list[str] = Field(description="What fired it, as name=value.")
    disposition: Literal["urgent_laparotomy", "operation_or_angiography", "nonoperative"] | None = Field(
        description="What it comes down to; null where it only qualifies others."
    )


class PhysiologyScore(Schema):
    """A score by a published formula, from given values alone. It picks no disposition."""

    name: str
    low: float = Field(description="The value; where inputs are missing, the lowest that it can be.")
    high: float = Field(description="The value; where inputs are missing, the highest that it can be.")
    meaning: str
    definition: str
    citation: str
    url: str
    inputs: list[str]
    missing: list[str]


class ReportResult(Result):
    """A report in sections."""

    study_id: str
    sections: list[ReportSection]
    physiology: list[PhysiologyScore]
    recommendations: list[Recommendation]
    needed_for_disposition: list[str] = Field(
        description="Inputs without which no disposition is given, because physiology comes before CT findings."
    )
    missing: list[str] = Field(description="Inputs and results that the report had to do without.")
