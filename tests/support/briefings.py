"""Briefings made by hand."""

from datetime import UTC, datetime
from typing import Any

from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.briefings import Briefing, BriefingParts
from trauma_api.services.briefings import links_of


def briefing_without_parts(briefing_id: str = "b" * 32, **changes: Any) -> Briefing:
    """A finished one, but for ``changes``."""
    whole: dict[str, Any] = {
        "briefing_id": briefing_id,
        "study_id": "d" * 32,
        "status": "done",
        "failure": None,
        "created_at": datetime(2026, 11, 23, 12, tzinfo=UTC),
        "started_at": None,
        "finished_at": None,
        "priority": "routine",
        "vitals": None,
        "clinical_context": None,
        "parts": BriefingParts(triage=None, analysis=None, volume=None, report=None, session=None),
        "links": links_of(briefing_id, "d" * 32, None),
        "notice": RESEARCH_NOTICE,
    }
    return Briefing.model_validate(whole | changes)
