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
    """One recommendation of a guideline that the inputs fired."""

    id: str
    guideline: str
    level: str
    statement: str
    citation: str
    url: str
    inputs: list[str]


class ReportResult(Result):
    """A report in sections."""

    study_id: str
    sections: list[ReportSection]
    recommendations: list[Recommendation]
    missing: list[str] = Field(description="Inputs and results that the report had to do without.")
