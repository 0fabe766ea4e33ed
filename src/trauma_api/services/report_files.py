"""The report of a briefing as a file: text, Markdown, PDF."""

import anyio.to_thread

from trauma_api.errors import ConflictError
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.report import ReportResult
from trauma_api.services.briefings import BriefingService
from trauma_api.services.facts import format_ml, slice_with_most_blood
from trauma_api.services.report_document import KeySlice
from trauma_api.services.report_text import markdown, plain_text
from trauma_api.services.slice_selection import first_apart
from trauma_api.services.studies import StudyService

KEY_SLICES = 4


class ReportNotAvailableError(ConflictError):
    """The briefing has no report."""

    code = "report-not-available"
    title = "No report"
    public_message = (
        "This briefing has no report: it has not ended, or its report is unavailable. Fetch the briefing to see which; "
        "wait for its end, or start a new one."
    )


class ReportFileService:
    """Writes the report of a briefing in the forms that people read."""

    def __init__(self, briefings: BriefingService, studies: StudyService) -> None:
        self._briefings = briefings
        self._studies = studies

    async def text(self, briefing_id: str) -> str:
        """Plain text. Raises BriefingNotFoundError, ReportNotAvailableError."""
        return plain_text(*await self._reported(briefing_id))

    async def markdown(self, briefing_id: str) -> str:
        """Markdown. Raises BriefingNotFoundError, ReportNotAvailableError."""
        return markdown(*await self._reported(briefing_id))

    async def pdf(self, briefing_id: str) -> bytes:
        """PDF with key slices. Raises BriefingNotFoundError, ReportNotAvailableError, StudyNotFoundError."""
        briefing, report = await self._reported(briefing_id)
        shown: list[KeySlice] = []
        blood = _blood_by_slice(briefing)
        for index in key_slices(briefing):
            png = await self._studies.picture(
                briefing.study_id, index, "abdomen", overlay=blood is not None, trunk_only=True
            )
            held = "no hemorrhage mask" if blood is None else f"{format_ml(blood.get(index, 0.0))} of blood marked red"
            shown.append(KeySlice(png, f"Slice {index}: {held}. Not for diagnosis."))
        return await anyio.to_thread.run_sync(_drawn, briefing, report, shown)

    async def _reported(self, briefing_id: str) -> tuple[Briefing, ReportResult]:
        briefing = await self._briefings.wait(briefing_id, 0)
        part = briefing.parts.report
        if part is None or part.result is None:
            raise ReportNotAvailableError
        return briefing, part.result


def _drawn(briefing: Briefing, report: ReportResult, slices: list[KeySlice]) -> bytes:
    # Imported here, in a thread: loading what draws pages looks for fonts on the disk.
    from trauma_api.services.report_pdf import write_pdf

    return write_pdf(briefing, report, slices)


def key_slices(briefing: Briefing) -> list[int]:
    """The slice with the most blood, and those that were read, in anatomical order.

    First come those with most blood that lie apart from the ones before, as neighbours show the same; then any.
    """
    blood = _blood_by_slice(briefing) or {}
    analysis, volume = briefing.parts.analysis, briefing.parts.volume
    read = analysis.result.slice_indices if analysis is not None and analysis.result is not None else []
    most = slice_with_most_blood(volume.result) if volume is not None and volume.result is not None else None
    wanted = [*([] if most is None else [most]), *sorted(read, key=lambda index: -blood.get(index, 0.0))]
    gap = (max(wanted, default=0) - min(wanted, default=0)) // (2 * KEY_SLICES)  # half a fair share
    spread = first_apart(wanted, KEY_SLICES, lambda one, other: abs(one - other) > gap)
    return sorted([*dict.fromkeys([*spread, *wanted])][:KEY_SLICES])


def _blood_by_slice(briefing: Briefing) -> dict[int, float] | None:
    part = briefing.parts.volume
    if part is None or part.result is None:
        return None
    return {one.slice_index: one.volume_ml for one in part.result.slices}
