"""Briefings: start, follow, fetch, cancel."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response, status
from sse_starlette import ServerSentEvent

from trauma_api.dependencies import BriefingIdPath, ContainerDep, WantsStream
from trauma_api.error_handlers import problem_of
from trauma_api.errors import TraumaAPIError
from trauma_api.routers.examples import BRIEFING_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.briefings import FINAL_STATUSES, Briefing, BriefingEventList, BriefingRequest
from trauma_api.schemas.problem import Problem
from trauma_api.services.briefings import BriefingNotFoundError, BriefingQueueFullError, ServiceStoppingError
from trauma_api.services.eligibility import StudyNotEligibleError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.study_storage import StudyNotFoundError
from trauma_api.streams import EventStream, sse, stream_response

router = APIRouter(prefix="/v1/briefings", tags=["Briefings"])

MAX_EVENT_ID = 2**31 - 1
WaitSeconds = Annotated[float, Query(ge=0, le=60, description="Hold the answer for up to so many seconds.")]
_EXAMPLE = 'id: 2\nevent: started\ndata: {"id":2,"type":"started","at":"2026-11-23T12:00:00Z","part":null}\n\n'


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Start a briefing",
    responses={
        200: {"model": Briefing, "description": "It ended within `wait` seconds."},
        **problems(
            StudyNotFoundError, StudyNotEligibleError, BriefingQueueFullError, GateBusyError, ServiceStoppingError
        ),
    },
)
async def create_briefing(
    container: ContainerDep,
    request: Annotated[BriefingRequest, Body(openapi_examples=BRIEFING_REQUEST)],
    response: Response,
    wait: WaitSeconds = 0,
) -> Briefing:
    """Triage, reading beside segmentation, report, a session for questions. Answers at once unless `wait` is given."""
    briefing = await container.briefings.start(request)
    response.headers["Location"] = briefing.links.self_url
    if wait > 0:
        briefing = await container.briefings.wait(briefing.briefing_id, wait)
    if briefing.is_final:
        response.status_code = status.HTTP_200_OK
    else:
        response.headers["Retry-After"] = "1"
    return briefing


@router.get("/{briefing_id}", summary="Fetch a briefing", responses=problems(BriefingNotFoundError))
async def get_briefing(container: ContainerDep, briefing_id: BriefingIdPath, wait: WaitSeconds = 0) -> Briefing:
    """How the briefing stands; with `wait`, once it has ended or the time is over."""
    return await container.briefings.wait(briefing_id, wait)


@router.delete("/{briefing_id}", summary="Cancel a briefing", responses=problems(BriefingNotFoundError))
async def cancel_briefing(container: ContainerDep, briefing_id: BriefingIdPath) -> Briefing:
    """Cancel a briefing that has not ended; one that has ended is removed. Answers with its last state."""
    return await container.briefings.cancel(briefing_id)


@router.get(
    "/{briefing_id}/events",
    summary="Follow a briefing",
    response_class=Response,
    responses={
        200: {
            "description": "The event log: as JSON, the events after `after`; as a stream, those and all that follow.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/BriefingEventList"}},
                **stream_response("", _EXAMPLE)["content"],
            },
        },
        204: {"description": "Resumed after the last event: nothing follows."},
        **problems(BriefingNotFoundError),
    },
)
async def get_briefing_events(
    container: ContainerDep,
    briefing_id: BriefingIdPath,
    request: Request,
    streamed: WantsStream,
    after: Annotated[int, Query(ge=0, le=MAX_EVENT_ID, description="Only events with a higher id.")] = 0,
    last_event_id: Annotated[int, Header(ge=0, le=MAX_EVENT_ID, description="Resumes a stream after this event.")] = 0,
) -> Response:
    """The same events under the same ids as a stream (`Accept: text/event-stream`) and as a list."""
    first_after = max(after, last_event_id)
    listed = await container.briefings.events(briefing_id, first_after)
    if not streamed:
        return Response(listed.model_dump_json(), media_type="application/json")
    if listed.status in FINAL_STATUSES and not listed.events:
        # What tells an EventSource, which reconnects after every end, that there is nothing more.
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return EventStream(_stream(container, listed, first_after, request.scope["state"]["request_id"]))


async def _stream(
    container: ContainerDep, listed: BriefingEventList, after: int, request_id: str
) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in container.briefings.follow(listed.briefing_id, after):
            yield sse(event.type, event, event.id)
    except TraumaAPIError as error:
        problem: Problem = problem_of(error, request_id)
        yield sse("error", problem)
