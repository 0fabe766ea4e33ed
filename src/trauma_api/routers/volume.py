"""Hemorrhage volume of a study."""

from typing import Annotated

from fastapi import APIRouter, Body

from trauma_api.dependencies import Admission, ContainerDep
from trauma_api.routers.examples import VOLUME_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.volume import VolumeRequest, VolumeResult
from trauma_api.services.eligibility import StudyNotEligibleError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.ports import DeviceLostError, DeviceOutOfMemoryError, EngineFailedError
from trauma_api.services.study_storage import StudyNotFoundError
from trauma_api.services.volume import NoSpacingError

router = APIRouter(prefix="/v1/volume", tags=["Volume"])


@router.post(
    "",
    summary="Measure hemorrhage",
    dependencies=[Admission],
    responses=problems(
        StudyNotFoundError,
        StudyNotEligibleError,
        NoSpacingError,
        GateBusyError,
        DeviceLostError,
        DeviceOutOfMemoryError,
        EngineFailedError,
    ),
)
async def create_volume(
    container: ContainerDep, request: Annotated[VolumeRequest, Body(openapi_examples=VOLUME_REQUEST)]
) -> VolumeResult:
    """Millilitres with an interval, per slice, and the mask as pictures."""
    study = await container.studies.open(request.study_id)
    return await container.volume.run(study, request.threshold)
