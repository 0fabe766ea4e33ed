"""What is loaded."""

from fastapi import APIRouter

from trauma_api.dependencies import ContainerDep
from trauma_api.routers.problems import problems
from trauma_api.schemas.models import ModelList

router = APIRouter(prefix="/v1/models", tags=["Service"])


@router.get("", summary="List loaded models", responses=problems())
async def list_models(container: ContainerDep) -> ModelList:
    """The profile, its models with the digests of their weights, and what they were trained on."""
    return container.models
