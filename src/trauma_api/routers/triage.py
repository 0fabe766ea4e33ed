"""Triage of a study."""

from typing import Annotated

from fastapi import APIRouter, Body

from trauma_api.dependencies import Admission, ContainerDep
from trauma_api.routers.examples import TRIAGE_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.triage import TriageRequest, TriageResult
from trauma_api.services.eligibility import StudyNotEligibleError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.ports import DeviceLostError, DeviceOutOfMemoryError, EngineFailedError
from trauma_api.services.study_storage import StudyNotFoundError

router = APIRouter(prefix="/v1/triage", tags=["Triage"])


@router.post(
    "",
    summary="Score every slice",
    dependencies=[Admission],
    responses=problems(
        StudyNotFoundError,
        StudyNotEligibleError,
        GateBusyError,
        DeviceLostError,
        DeviceOutOfMemoryError,
        EngineFailedError,
    ),
)
async def create_triage(
    container: ContainerDep, request: Annotated[TriageRequest, Body(openapi_examples=TRIAGE_REQUEST)]
) -> TriageResult:
    """Suspicion of every slice against five statements, and the slices selected for reading."""
    study = await container.studies.open(request.study_id)
    return await container.triage.run(study, request.threshold)
