"""Many clients at once over bare connections, and what they leave behind in the service."""

import asyncio
import resource
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from tests.support.engines import HOLD_LIMIT_S
from tests.support.events import parse_events
from tests.support.service import RunningService
from trauma_api.schemas.briefings import Briefing

T = TypeVar("T")

LIMIT_S = 60.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""Linger of zero seconds: closing sends a reset."""


@contextmanager
def open_files_allowed(count: int) -> Iterator[None]:
    """Lets this process have so many files open at least."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> int:
    """Files and sockets that this process has open, those of the service in it included."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until_equal(seen: Callable[[], object], expected: object) -> None:
    """Wait until something that the service's thread does has happened."""
    deadline = time.monotonic() + LIMIT_S
    while (now := seen()) != expected:
        assert time.monotonic() < deadline, f"still {now}"
        await asyncio.sleep(0.01)


class Stream:
    """A stream of events over a connection of its own, read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str, question: str | None = None) -> "Stream":
        """Send a request: a question, or a GET without one."""
        parts = urlsplit(url)
        body = b"" if question is None else f'{{"question": "{question}"}}'.encode()
        head = (
            f"{'GET' if question is None else 'POST'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Accept: text/event-stream\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        await writer.drain()
        return cls(reader, writer)

    async def first_event(self) -> tuple[str, dict[str, Any], str | None]:
        """The head of the response, which must be that of a stream, and its first event."""
        status = await self._reader.readline()
        assert status == b"HTTP/1.1 200 OK\r\n", status
        return _events(await self._reader.readuntil(b"\n\n"))[0]

    async def rest(self) -> list[tuple[str, dict[str, Any], str | None]]:
        """All further events, to the end of the stream and the connection."""
        events = _events(await self._reader.read())
        await self.close()
        return events

    async def close(self) -> None:
        """Leave in an orderly way."""
        self._writer.close()
        await self._writer.wait_closed()

    def reset(self) -> None:
        """Leave as a client that crashed, or a network that broke, does."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()


def _events(content: bytes) -> list[tuple[str, dict[str, Any], str | None]]:
    """The sizes of the chunks, which stand on lines of their own, look like no field of an event."""
    return list(parse_events(iter(content.decode().splitlines())))


class EventLoop:
    """A look into the service's event loop, and a way to call what has no URL."""

    def __init__(self, service: RunningService) -> None:
        async def remember() -> None:
            self._loop = asyncio.get_running_loop()

        self._container = service.container
        service.app.add_api_route("/loop", remember)
        httpx.get(f"{service.url}/loop").raise_for_status()

    def tasks(self) -> Counter[str]:
        """How many tasks of each coroutine have not ended."""
        return Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks(self._loop))  # type: ignore[union-attr]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have the service's loop run it to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LIMIT_S)

    def open_sessions(self, briefing: dict[str, Any], count: int) -> list[str]:
        """So many more sessions on a finished briefing. Returns where to ask them."""

        async def create() -> list[str]:
            kept = Briefing.model_validate(briefing)
            ids = [uuid.uuid4().hex for _ in range(count)]
            for session_id in ids:
                await self._container.sessions.create(session_id, kept, on_sample=False)
            return ids

        return [f"/v1/sessions/{session_id}/questions" for session_id in self.run(create())]


class Holds:
    """Holds model calls, deaf to who has left, until they are let go; counts over all models how many are held."""

    def __init__(self) -> None:
        self.begun = 0
        self.now = 0
        self.peak = 0
        self._open = False
        self._tickets = 0
        self._changed = threading.Condition()

    def wait(self) -> None:
        """Be held; for a model call to begin with."""
        with self._changed:
            self.begun += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
            assert self._changed.wait_for(lambda: self._open or self._tickets, HOLD_LIMIT_S)
            self._tickets = max(0, self._tickets - 1)
            self.now -= 1

    def let_one_go(self) -> None:
        """Let the call that is held go on, or the next one."""
        with self._changed:
            self._tickets += 1
            self._changed.notify_all()

    def set_open(self, is_open: bool) -> None:
        """Whether calls are let through as they come."""
        with self._changed:
            self._open = is_open
            self._changed.notify_all()
