"""The report of a briefing as a file."""

from fastapi import APIRouter, Response

from trauma_api.dependencies import BriefingIdPath, ContainerDep
from trauma_api.routers.problems import problems
from trauma_api.services.briefings import BriefingNotFoundError
from trauma_api.services.report_files import ReportNotAvailableError
from trauma_api.services.studies import NoMaskError
from trauma_api.services.study_storage import StudyNotFoundError

router = APIRouter(prefix="/v1/briefings", tags=["Report"])

_NO_STORE = {"Cache-Control": "no-store"}


@router.get(
    "/{briefing_id}/report.txt",
    summary="The report as text",
    response_class=Response,
    responses={
        200: {"description": "Plain text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(BriefingNotFoundError, ReportNotAvailableError),
    },
)
async def get_report_text(container: ContainerDep, briefing_id: BriefingIdPath) -> Response:
    """All sections, sources, models and warnings."""
    text = await container.report_files.text(briefing_id)
    return Response(text, media_type="text/plain", headers=_NO_STORE)


@router.get(
    "/{briefing_id}/report.md",
    summary="The report as Markdown",
    response_class=Response,
    responses={
        200: {"description": "Markdown.", "content": {"text/markdown": {"schema": {"type": "string"}}}},
        **problems(BriefingNotFoundError, ReportNotAvailableError),
    },
)
async def get_report_markdown(container: ContainerDep, briefing_id: BriefingIdPath) -> Response:
    """The same as Markdown."""
    text = await container.report_files.markdown(briefing_id)
    return Response(text, media_type="text/markdown", headers=_NO_STORE)


@router.get(
    "/{briefing_id}/report.pdf",
    summary="The report as PDF",
    response_class=Response,
    responses={
        200: {
            "description": "PDF of two pages.",
            "content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(BriefingNotFoundError, ReportNotAvailableError, StudyNotFoundError, NoMaskError),
    },
)
async def get_report_pdf(container: ContainerDep, briefing_id: BriefingIdPath) -> Response:
    """The same on two pages, with key slices and the hemorrhage mask drawn in. Needs the study, as it shows slices."""
    content = await container.report_files.pdf(briefing_id)
    headers = {**_NO_STORE, "Content-Disposition": 'inline; filename="briefing.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)
