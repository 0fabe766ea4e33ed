"""What path operations depend on: the services, and the preconditions that must hold before they run."""

import hmac
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Path, Request, Security
from fastapi.openapi.models import Example
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from trauma_api.errors import UnauthorizedError
from trauma_api.schemas.base import ID_PATTERN, SAMPLE_ID

if TYPE_CHECKING:
    from trauma_api.container import Container

_bearer = HTTPBearer(auto_error=False, description="API key; asked for when the operator has set TRAUMA_API_KEYS.")


def get_container(request: Request) -> "Container":
    """The service, as the lifespan built it."""
    return cast("Container", request.app.state.container)


async def require_api_key(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """Check the bearer token. Raises UnauthorizedError."""
    keys = get_container(request).settings.api_key_list
    if not keys:
        return
    sent = "" if credentials is None else credentials.credentials
    # All keys are compared, each in constant time, so that the time tells nothing.
    matches = [hmac.compare_digest(sent.encode(), key.encode()) for key in keys]
    if not any(matches):
        raise UnauthorizedError


async def admit(request: Request) -> AsyncIterator[None]:
    """Hold a place in the gate for the request. Raises GateBusyError."""
    with get_container(request).gate.admission():
        yield


# FastAPI would read "Container" as a body model: dependencies are typed as object there and as Container for mypy.
if TYPE_CHECKING:
    ContainerDep = Container
else:
    ContainerDep = Annotated[object, Depends(get_container)]

Admission = Depends(admit)

SAMPLE_EXAMPLE = {"sample": Example(value=SAMPLE_ID)}


async def wants_stream(request: Request) -> bool:
    """Whether the Accept header asks for server-sent events. OpenAPI describes it by the response's media types."""
    return "text/event-stream" in request.headers.get("accept", "")


WantsStream = Annotated[bool, Depends(wants_stream)]

StudyIdPath = Annotated[
    str, Path(pattern=ID_PATTERN, description="Id of a study, or `sample`.", openapi_examples=SAMPLE_EXAMPLE)
]
BriefingIdPath = Annotated[
    str,
    Path(
        pattern=ID_PATTERN,
        description="Id of a briefing, or `sample` for the last one on the sample study.",
        openapi_examples=SAMPLE_EXAMPLE,
    ),
]
SessionIdPath = Annotated[
    str,
    Path(
        pattern=ID_PATTERN,
        description="Id of a session, or `sample` for the last one on the sample study.",
        openapi_examples=SAMPLE_EXAMPLE,
    ),
]
