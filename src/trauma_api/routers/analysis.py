"""The reading of a study."""

from typing import Annotated

from fastapi import APIRouter, Body

from trauma_api.dependencies import Admission, ContainerDep
from trauma_api.routers.examples import ANALYSIS_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.analysis import AnalysisRequest, AnalysisResult
from trauma_api.services.eligibility import StudyNotEligibleError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.ports import DeviceLostError, DeviceOutOfMemoryError, EngineFailedError, PromptTooLongError
from trauma_api.services.studies import SliceOutOfRangeError
from trauma_api.services.study_storage import StudyNotFoundError

router = APIRouter(prefix="/v1/analysis", tags=["Reading"])


@router.post(
    "",
    summary="Read suspicious slices",
    dependencies=[Admission],
    responses=problems(
        StudyNotFoundError,
        StudyNotEligibleError,
        SliceOutOfRangeError,
        GateBusyError,
        DeviceLostError,
        DeviceOutOfMemoryError,
        EngineFailedError,
        PromptTooLongError,
    ),
)
async def create_analysis(
    container: ContainerDep, request: Annotated[AnalysisRequest, Body(openapi_examples=ANALYSIS_REQUEST)]
) -> AnalysisResult:
    """Typed findings, each closed choice with its probability. Without `slice_indices`, triage selects the slices."""
    study = await container.studies.open(request.study_id)
    indices = request.slice_indices or (await container.triage.run(study)).selected_slices
    return await container.analysis.run(study, indices, request.vitals)
