"""Liveness and readiness. Without a key, without patient data."""

from fastapi import APIRouter, Response, status

from trauma_api import __version__
from trauma_api.dependencies import ContainerDep
from trauma_api.schemas.health import Liveness, Readiness

router = APIRouter(tags=["Service"])


@router.get("/healthz", summary="Liveness")
async def get_liveness() -> Liveness:
    """The process answers, whatever else is down."""
    return Liveness(status="alive", version=__version__)


@router.get(
    "/readyz", summary="Readiness", responses={503: {"model": Readiness, "description": "A part is not ready."}}
)
async def get_readiness(container: ContainerDep, response: Response) -> Readiness:
    """Whether the service can take work, and which part cannot."""
    readiness = await container.health.readiness()
    if not readiness.ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "5"
    return readiness
