"""Many clients at once: all are served or refused in time, and none leaves anything behind."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.engines import ConstantTriage, ScriptedReader, SlowReader, small_engines
from tests.support.events import parse_events
from tests.support.load import LIMIT_S, EventLoop, Holds, Stream, open_files, open_files_allowed, until
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService
from tests.support.studies import upload_slices
from trauma_api.engines.base import Generation, GenerationRequest, TriageScores
from trauma_api.services.gate import GateState

BRIEFINGS, STREAMS_PER_BRIEFING, ANSWERS = 8, 50, 100
RESETS_AT_ONCE = 50
STORE_CONNECTIONS = 64
"""The store keeps so many open for good."""
ADMISSION_LIMIT_S = 2.0


class Scene:
    """A service with a reader that can be held, a study, and a finished briefing on it."""

    def __init__(self, service: RunningService, client: httpx.Client, reader: SlowReader) -> None:
        self.service, self.client, self.reader = service, client, reader
        self.study_id: str = upload_slices(client, 4)["study_id"]
        reader.release.set()
        self.briefing = self.finished(self.start()["links"]["self_url"])
        self.loop = EventLoop(service)
        # The first stream of a loop starts what watches over all of them.
        self.client.get(self.briefing["links"]["events_url"], headers={"Accept": "text/event-stream"})
        self.idle_tasks = self.loop.tasks()
        reader.release.clear()

    def start(self) -> dict[str, Any]:
        """A briefing, taken."""
        response = self.client.post("/v1/briefings", json={"study_id": self.study_id})
        assert response.status_code == 202, response.text
        briefing: dict[str, Any] = response.json()
        return briefing

    def finished(self, url: str) -> dict[str, Any]:
        """A briefing once it has ended."""
        briefing: dict[str, Any] = self.client.get(f"{url}?wait=20").json()
        assert briefing["status"] == "done", briefing["failure"]
        return briefing

    def url(self, path: str) -> str:
        """Where a path is served."""
        return self.service.url + path

    async def wait_until_nothing_is_left(self) -> None:
        """Wait until the gate is idle and no task is there that was not at the start."""
        await until(lambda: self.service.container.gate.state == GateState(0, 0, 0))
        await until(lambda: not self.loop.tasks() - self.idle_tasks)


@contextmanager
def scene(**settings: Any) -> Iterator[Scene]:
    """A service for a test; its reader waits at every request until it is released."""
    reader = SlowReader()
    with open_files_allowed(4096), quick_service(small_engines(reader=reader), **settings) as (service, client):
        try:
            yield Scene(service, client, reader)
        finally:
            reader.release.set()


class TestManyStreams:
    async def test_five_hundred_at_once_are_all_served_to_their_ends(self) -> None:
        with scene(gate_queue=BRIEFINGS + ANSWERS) as here:
            files_before = open_files()
            followed = [here.start()["links"]["events_url"] for _ in range(BRIEFINGS)] * STREAMS_PER_BRIEFING
            asked = here.loop.open_sessions(here.briefing, ANSWERS)
            streams = [await Stream.open(here.url(path)) for path in followed]
            streams += [await Stream.open(here.url(path), "Is there blood?") for path in asked]
            async with asyncio.timeout(LIMIT_S):
                first = await asyncio.gather(*(stream.first_event() for stream in streams))
                here.reader.release.set()
                rest = await asyncio.gather(*(stream.rest() for stream in streams))
            assert Counter(name for name, _, _ in first) == {"queued": len(followed), "status": ANSWERS}
            assert all(events[-1][0] == "done" for events in rest)
            logs = {path: [str(first[i]), *map(str, rest[i])] for i, path in enumerate(followed)}
            assert len(logs) == BRIEFINGS
            for i, path in enumerate(followed):
                assert [str(first[i]), *map(str, rest[i])] == logs[path]
                assert [int(number or 0) for _, _, number in (first[i], *rest[i])] == list(range(1, len(rest[i]) + 2))
            assert {"".join(text["text"] for name, text, _ in answer if name == "token") for answer in rest[-ANSWERS:]}
            await here.wait_until_nothing_is_left()
            assert open_files() <= files_before + STORE_CONNECTIONS
