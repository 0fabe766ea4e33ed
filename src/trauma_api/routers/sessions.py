"""Sessions, questions and answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response, status
from sse_starlette import ServerSentEvent

from trauma_api.dependencies import SAMPLE_EXAMPLE, ContainerDep, SessionIdPath, WantsStream
from trauma_api.routers.examples import QUESTION_REQUEST
from trauma_api.routers.problems import problems
from trauma_api.schemas.base import ID_PATTERN
from trauma_api.schemas.sessions import Answer, DoneEvent, ErrorEvent, QuestionRequest, Session, StatusEvent, TokenEvent
from trauma_api.services.briefings import ServiceStoppingError
from trauma_api.services.gate import GateBusyError
from trauma_api.services.questions import AnswerNotFoundError, SessionBusyError
from trauma_api.services.running_answer import RunningAnswer
from trauma_api.services.sessions import SessionNotFoundError
from trauma_api.services.study_storage import StudyNotFoundError
from trauma_api.streams import EventStream, sse, stream_response

router = APIRouter(prefix="/v1/sessions", tags=["Sessions and questions"])

_NAMES = {StatusEvent: "status", TokenEvent: "token", DoneEvent: "done", ErrorEvent: "error"}
_EXAMPLE = 'event: status\ndata: {"answer_id":"0f","status":"running"}\n\nevent: token\ndata: {"text":"There "}\n\n'


@router.get("/{session_id}", summary="Describe a session", responses=problems(SessionNotFoundError))
async def get_session(container: ContainerDep, session_id: SessionIdPath) -> Session:
    """The session's briefing, study and history. Counts as a use."""
    return await container.sessions.get(session_id)


@router.delete(
    "/{session_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="End a session",
    responses=problems(SessionNotFoundError),
)
async def delete_session(container: ContainerDep, session_id: SessionIdPath) -> None:
    """Forget the session and its history now."""
    await container.sessions.delete(session_id)


@router.post(
    "/{session_id}/questions",
    summary="Ask a question",
    response_class=Response,
    responses={
        200: {
            "description": "The answer: whole as JSON, or as a stream of `status`, `token`, then `done` or `error`.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
                **stream_response("", _EXAMPLE)["content"],
            },
        },
        **problems(SessionNotFoundError, StudyNotFoundError, SessionBusyError, GateBusyError, ServiceStoppingError),
    },
)
async def create_question(
    container: ContainerDep,
    session_id: SessionIdPath,
    question: Annotated[QuestionRequest, Body(openapi_examples=QUESTION_REQUEST)],
    request: Request,
    streamed: WantsStream,
) -> Response:
    """Ask about the session's study. A client that leaves stops the answer, unless it asked for `continue`."""
    running = await container.questions.ask(session_id, question)
    if streamed:
        return EventStream(_stream(running), on_close=running.leave)
    await _ended_or_left(running, request)
    return Response(running.answer.model_dump_json(), media_type="application/json")


@router.get(
    "/{session_id}/questions/{answer_id}",
    summary="Fetch an answer",
    responses=problems(SessionNotFoundError, AnswerNotFoundError),
)
async def get_answer(
    container: ContainerDep,
    session_id: SessionIdPath,
    answer_id: Annotated[
        str,
        Path(
            pattern=ID_PATTERN,
            description="From the stream's `status` event, or `sample` for the session's last answer.",
            openapi_examples=SAMPLE_EXAMPLE,
        ),
    ],
) -> Answer:
    """The answer as it stands: for a client that lost the stream."""
    return await container.questions.get(session_id, answer_id)


async def _stream(running: RunningAnswer) -> AsyncIterator[ServerSentEvent]:
    async for event in running.events():
        yield sse(_NAMES[type(event)], event)


async def _ended_or_left(running: RunningAnswer, request: Request) -> None:
    """Wait for the answer; when the client leaves first, stop it."""
    left = asyncio.create_task(_left(request))
    ended = asyncio.create_task(running.ended.wait())
    await asyncio.wait({left, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        running.leave()
        await ended
    left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
