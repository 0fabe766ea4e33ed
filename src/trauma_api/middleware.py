"""Pure ASGI middleware: request id with one log line a request, and a body limit that counts bytes as they arrive."""

import time
import uuid
from http import HTTPStatus

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trauma_api.log import get_logger

REQUEST_ID_HEADER = "X-Request-Id"
LINGER_S = 2.0
"""How long a client may go on sending after its request was refused."""
MAX_LENGTH_DIGITS = 20
"""So many tell that a stated length is over every limit."""

logger = get_logger()


class RequestIdMiddleware:
    """Gives each request an id, binds it to the log, and logs the route, status and duration; never the URL itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                logger.info(
                    "request",
                    method=scope["method"],
                    route=getattr(scope.get("route"), "path", None),
                    status=status or 500,
                    duration_ms=round((time.monotonic() - began) * 1000),
                )


class BodyLimitMiddleware:
    """Refuses bodies over the limit, by what arrives; a Content-Length over it is refused before anything is read.

    A refusal that leaves a part of the body unread closes the connection, after a while in which that part is thrown
    away: a client that is still sending would otherwise be reset before it has read the refusal.
    """

    def __init__(self, app: ASGIApp, *, max_json_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self._max_json_bytes = max_json_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/").endswith("/studies")
        body = _CountedBody(scope, receive, self._max_upload_bytes if is_upload else self._max_json_bytes)
        closes = False

        async def send_and_close(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST and body.unread:
                closes = True
                MutableHeaders(scope=message)["Connection"] = "close"
            if closes and message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.throw_away()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, body.receive, send_and_close)


class _CountedBody:
    """The body of one request."""

    def __init__(self, scope: Scope, receive: Receive, limit_bytes: int) -> None:
        headers = Headers(scope=scope)
        self.unread = "transfer-encoding" in headers or stated_body_bytes(headers) not in {None, 0}
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._stated_bytes = stated_body_bytes(headers) or 0
        self._received_bytes = 0

    async def receive(self) -> Message:
        """The next message. Raises HTTPException, the one error that FastAPI lets through from inside body parsing."""
        if self._stated_bytes > self._limit_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        message = await self._next()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._limit_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    async def throw_away(self) -> None:
        """Read what is left, for a limited time."""
        with anyio.move_on_after(LINGER_S):
            while self.unread:
                await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):  # the end of the body, or of the connection
            self.unread = False
        return message


def stated_body_bytes(headers: Headers) -> int | None:
    """What Content-Length says; None where there is none, or nothing sensible. Never to be relied on."""
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text.lstrip("0")[:MAX_LENGTH_DIGITS] or "0")
