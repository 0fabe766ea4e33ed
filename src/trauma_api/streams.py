"""Server-sent events: one response class, and how a stream is declared in the contract.

FastAPI's own SSE support describes streams with ``itemSchema``, which no OpenAPI 3.1 tool knows. A stream is declared
as a string here, and its payloads are named schemas.
"""

from collections.abc import AsyncIterable, Callable
from typing import Any

import anyio
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

PING_S = 10
SEND_TIMEOUT_S = 30
SHUTDOWN_GRACE_S = 6.0


class EventStream(EventSourceResponse):
    """A stream that tells when it is over, however it ended.

    A generator that was never started never runs its ``finally``; ``on_close`` runs also when the client left before
    the first byte.
    """

    def __init__(self, events: AsyncIterable[ServerSentEvent], on_close: Callable[[], None] | None = None) -> None:
        super().__init__(
            events,
            ping=PING_S,
            send_timeout=SEND_TIMEOUT_S,
            # On shutdown the services end each stream with an event of its own; this is how long they have.
            shutdown_event=anyio.Event(),
            shutdown_grace_period=SHUTDOWN_GRACE_S,
        )
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._on_close is not None:
                self._on_close()


def sse(event: str, payload: BaseModel, event_id: int | None = None) -> ServerSentEvent:
    """One event with a JSON payload."""
    return ServerSentEvent(
        data=payload.model_dump_json(), event=event, id=None if event_id is None else str(event_id), sep="\n"
    )


def stream_response(description: str, example: str) -> dict[str, Any]:
    """How a ``text/event-stream`` response is declared."""
    return {
        "description": description,
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": example}},
    }
