"""A finished briefing made of results, as a session is opened on and a report is printed from."""

import uuid
from datetime import UTC, datetime

from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.briefings import (
    AnalysisPart,
    Briefing,
    BriefingParts,
    ReportPart,
    VolumePart,
)
from trauma_api.schemas.report import ReportResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.briefings import links_of
from trauma_api.services.study_storage import StoredStudy


def finished_briefing(
    study: StoredStudy, reading: AnalysisResult | None, volume: VolumeResult | None, report: ReportResult | None
) -> Briefing:
    """With the parts that there are."""
    briefing_id, now = uuid.uuid4().hex, datetime.now(UTC)
    return Briefing(
        briefing_id=briefing_id,
        study_id=study.record.study_id,
        status="done",
        failure=None,
        created_at=now,
        started_at=now,
        finished_at=now,
        priority="routine",
        vitals=None,
        clinical_context=None,
        parts=BriefingParts(
            triage=None,
            analysis=None if reading is None else AnalysisPart(status="done", failure=None, result=reading),
            volume=None if volume is None else VolumePart(status="done", failure=None, result=volume),
            report=None if report is None else ReportPart(status="done", failure=None, result=report),
            session=None,
        ),
        links=links_of(briefing_id, study.record.study_id, None),
        notice=RESEARCH_NOTICE,
    )
