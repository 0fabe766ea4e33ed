"""Briefings: the whole run on one study, its parts, and the log of its events."""

from typing import Annotated, Literal

from pydantic import Field

from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.base import Result, Schema, StudyId, Timestamp
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import ReportResult
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult

BriefingStatus = Literal["queued", "running", "done", "failed", "cancelled"]
PartName = Literal["triage", "analysis", "volume", "report", "session"]
PartStatus = Literal["done", "unavailable"]
Priority = Literal["stat", "routine"]
FINAL_STATUSES: tuple[BriefingStatus, ...] = ("done", "failed", "cancelled")


class BriefingRequest(Schema):
    """Which study, and what is known of the patient."""

    study_id: StudyId
    priority: Priority = Field(
        default="routine", description="`stat` goes before all that is routine; questions go before both."
    )
    vitals: Vitals | None = None
    clinical_context: ClinicalContext | None = None


class PartFailure(Schema):
    """Why a part is unavailable."""

    code: str
    detail: str
    retryable: bool


class TriagePart(Schema):
    """Outcome of triage."""

    status: PartStatus
    failure: PartFailure | None
    result: TriageResult | None


class AnalysisPart(Schema):
    """Outcome of the reading."""

    status: PartStatus
    failure: PartFailure | None
    result: AnalysisResult | None


class VolumePart(Schema):
    """Outcome of segmentation."""

    status: PartStatus
    failure: PartFailure | None
    result: VolumeResult | None


class ReportPart(Schema):
    """Outcome of the report."""

    status: PartStatus
    failure: PartFailure | None
    result: ReportResult | None


class SessionPart(Schema):
    """The session that was opened for questions."""

    status: PartStatus
    failure: PartFailure | None
    session_id: str | None


class BriefingParts(Schema):
    """The parts; null while one has not ended."""

    triage: TriagePart | None
    analysis: AnalysisPart | None
    volume: VolumePart | None
    report: ReportPart | None
    session: SessionPart | None

    @property
    def results(self) -> dict[str, Result]:
        """What there is of triage, reading, volume and report, by these names."""
        named = {"triage": self.triage, "reading": self.analysis, "volume": self.volume, "report": self.report}
        return {name: part.result for name, part in named.items() if part is not None and part.result is not None}


class BriefingLinks(Schema):
    """Where to go on from."""

    self_url: str
    events_url: str
    study_url: str
    report_text_url: str = Field(description="409 until there is a report; so for the next two.")
    report_markdown_url: str
    report_pdf_url: str
    session_url: str | None
    questions_url: str | None


class Briefing(Schema):
    """A briefing in its present state."""

    briefing_id: str
    study_id: str
    status: BriefingStatus
    failure: PartFailure | None = Field(description="Why it failed as a whole; null otherwise.")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    priority: Priority
    vitals: Vitals | None
    clinical_context: ClinicalContext | None
    parts: BriefingParts
    links: BriefingLinks
    notice: str

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINAL_STATUSES


EventType = Literal["queued", "started", "progress", "part", "done", "failed", "cancelled"]


class BriefingEvent(Schema):
    """One event of a briefing. Ids count from 1 and are the same in the stream and in the list."""

    id: Annotated[int, Field(ge=1)]
    type: EventType
    at: Timestamp
    part: PartName | None
    status: PartStatus | None = Field(description="How the part ended, for a `part` event.")
    code: str | None = Field(description="Why it is unavailable, failed or was cancelled.")
    done: int | None = Field(description="Slices or tokens done, for a `progress` event.")
    total: int | None

    @property
    def is_final(self) -> bool:
        """Whether no event follows."""
        return self.type in FINAL_STATUSES


class BriefingEventList(Schema):
    """Events after the asked-for id."""

    briefing_id: str
    status: BriefingStatus
    events: list[BriefingEvent]
