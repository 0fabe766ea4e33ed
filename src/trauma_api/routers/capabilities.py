"""What the service takes, and how much of it."""

from functools import partial

import anyio.to_thread
from fastapi import APIRouter

from trauma_api.dependencies import ContainerDep
from trauma_api.routers.problems import problems
from trauma_api.schemas.capabilities import Capabilities
from trauma_api.services.capabilities import list_capabilities
from trauma_api.uploads import CONTENT_TYPES

router = APIRouter(prefix="/v1/capabilities", tags=["Service"])


@router.get("", summary="List formats and limits", responses=problems())
async def get_capabilities(container: ContainerDep) -> Capabilities:
    """The formats that are taken, what decodes them, and every limit that an upload is held to."""
    return await anyio.to_thread.run_sync(partial(list_capabilities, container.settings, CONTENT_TYPES))
