"""The order of work of one briefing: triage and reading beside segmentation, then the report."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from trauma_api.errors import TraumaAPIError
from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.briefings import (
    AnalysisPart,
    BriefingRequest,
    PartFailure,
    PartStatus,
    ReportPart,
    TriagePart,
    VolumePart,
)
from trauma_api.schemas.report import ReportResult
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.analysis import AnalysisService
from trauma_api.services.briefing_journal import BriefingJournal
from trauma_api.services.report import ReportService
from trauma_api.services.study_storage import StoredStudy
from trauma_api.services.triage import TriageService
from trauma_api.services.volume import VolumeService

T = TypeVar("T")

NEEDS_TRIAGE = PartFailure(
    code="needs-triage",
    detail="The reading needs the slices that triage selects, and triage is unavailable.",
    retryable=False,
)
NEEDS_RESULTS = PartFailure(
    code="needs-findings-or-volume",
    detail="A report needs findings or a volume, and both are unavailable.",
    retryable=False,
)


def failure_of(error: TraumaAPIError) -> PartFailure:
    """Why a part is unavailable, as clients see it."""
    return PartFailure(code=error.code, detail=error.detail, retryable=error.retryable)


class BriefingRun:
    """Runs the parts of one briefing into its journal. A failed part stops only what needs it."""

    def __init__(
        self, triage: TriageService, analysis: AnalysisService, volume: VolumeService, report: ReportService
    ) -> None:
        self._triage = triage
        self._analysis = analysis
        self._volume = volume
        self._report = report

    async def run(self, journal: BriefingJournal, study: StoredStudy, request: BriefingRequest) -> bool:
        """Run all parts. Returns whether there is anything to report on."""
        journal.update(status="running", started_at=datetime.now(UTC))
        journal.add_event("started")
        async with asyncio.TaskGroup() as group:
            segmentation = group.create_task(self._run_volume(journal, study))
            triage = await self._run_triage(journal, study)
            findings = await self._run_analysis(journal, study, triage, request)
        volume = segmentation.result()
        await self._run_report(journal, study, request, findings, volume)
        return findings is not None or volume is not None

    async def _run_triage(self, journal: BriefingJournal, study: StoredStudy) -> TriageResult | None:
        result, failure = await _attempt(self._triage.run(study, on_progress=journal.progress_of("triage")))
        journal.end_part("triage", TriagePart(status=_status(failure), failure=failure, result=result))
        return result

    async def _run_analysis(
        self, journal: BriefingJournal, study: StoredStudy, triage: TriageResult | None, request: BriefingRequest
    ) -> AnalysisResult | None:
        result: AnalysisResult | None = None
        failure: PartFailure | None = NEEDS_TRIAGE
        if triage is not None:
            result, failure = await _attempt(self._analysis.run(study, triage.selected_slices, request.vitals))
        journal.end_part("analysis", AnalysisPart(status=_status(failure), failure=failure, result=result))
        return result

    async def _run_volume(self, journal: BriefingJournal, study: StoredStudy) -> VolumeResult | None:
        result, failure = await _attempt(self._volume.run(study, on_progress=journal.progress_of("volume")))
        journal.end_part("volume", VolumePart(status=_status(failure), failure=failure, result=result))
        return result

    async def _run_report(
        self,
        journal: BriefingJournal,
        study: StoredStudy,
        request: BriefingRequest,
        analysis: AnalysisResult | None,
        volume: VolumeResult | None,
    ) -> None:
        result: ReportResult | None = None
        failure: PartFailure | None = NEEDS_RESULTS
        if analysis is not None or volume is not None:
            findings, slices_read = (None, []) if analysis is None else (analysis.findings, analysis.slice_indices)
            result, failure = await _attempt(
                self._report.run(study, findings, volume, request.vitals, request.clinical_context, slices_read)
            )
        journal.end_part("report", ReportPart(status=_status(failure), failure=failure, result=result))


async def _attempt(work: Awaitable[T]) -> tuple[T | None, PartFailure | None]:
    try:
        return await work, None
    except TraumaAPIError as error:
        return None, failure_of(error)


def _status(failure: PartFailure | None) -> PartStatus:
    return "done" if failure is None else "unavailable"
