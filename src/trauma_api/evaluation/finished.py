"""A finished briefing made of results, as a session is opened on and a report is printed from."""

import uuid
from datetime import UTC, datetime

from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.briefings import (
    AnalysisPart,
    Briefing,
    BriefingLinks,
    BriefingParts,
    ReportPart,
    VolumePart,
)
from trauma_api.schemas.report import ReportResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.study_storage import StoredStudy


def finished_briefing(
    study: StoredStudy, reading: AnalysisResult | None, volume: VolumeResult | None, report: ReportResult | None
) -> Briefing:
    """With the parts that there are."""
    now = datetime.now(UTC)
    return Briefing(
        briefing_id=uuid.uuid4().hex,
        study_id=study.record.study_id,
        status="done",
        failure=None,
        created_at=now,
        started_at=now,
        finished_at=now,
        vitals=None,
        clinical_context=None,
        parts=BriefingParts(
            triage=None,
            analysis=None if reading is None else AnalysisPart(status="done", failure=None, result=reading),
            volume=None if volume is None else VolumePart(status="done", failure=None, result=volume),
            report=None if report is None else ReportPart(status="done", failure=None, result=report),
            session=None,
        ),
        links=BriefingLinks(
            self_url="",
            events_url="",
            study_url="",
            report_text_url="",
            report_markdown_url="",
            report_pdf_url="",
            session_url=None,
            questions_url=None,
        ),
        notice=RESEARCH_NOTICE,
    )
