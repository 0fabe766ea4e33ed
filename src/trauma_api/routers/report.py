"""The report on a study."""

from typing import Annotated

from fastapi import APIRouter, Body

from trauma_api.dependencies import Admission, ContainerDep
from trauma_api.routers.examples import REPORT_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.report import ReportRequest, ReportResult
from trauma_api.services.eligibility import StudyNotEligibleError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.ports import DeviceLostError, DeviceOutOfMemoryError, EngineFailedError, PromptTooLongError
from trauma_api.services.report import NothingToReportError, OtherStudyError
from trauma_api.services.study_storage import StudyNotFoundError

router = APIRouter(prefix="/v1/report", tags=["Report"])


@router.post(
    "",
    summary="Write a report",
    dependencies=[Admission],
    responses=problems(
        StudyNotFoundError,
        StudyNotEligibleError,
        NothingToReportError,
        OtherStudyError,
        GateBusyError,
        DeviceLostError,
        DeviceOutOfMemoryError,
        EngineFailedError,
        PromptTooLongError,
    ),
)
async def create_report(
    container: ContainerDep, request: Annotated[ReportRequest, Body(openapi_examples=REPORT_REQUEST)]
) -> ReportResult:
    """Statements from the results with what each rests on, and prose by the model, each sentence checked."""
    study = await container.studies.open(request.study_id)
    return await container.report.run(
        study,
        request.findings,
        request.volume,
        request.vitals,
        request.clinical_context,
        request.slice_indices or (),
    )
