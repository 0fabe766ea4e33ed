"""Many clients at once: all are served or refused in time, and none leaves anything behind."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.engines import ConstantTriage, ScriptedReader, SlowReader, small_engines
from tests.support.events import parse_events
from tests.support.load import LIMIT_S, EventLoop, Holds, Stream, open_files, open_files_allowed, until_equal
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService
from tests.support.studies import upload_slices
from trauma_api.container import Engines
from trauma_api.engines.base import Generation, GenerationRequest, SlicePixels, TriageScores
from trauma_api.schemas.sessions import QuestionRequest
from trauma_api.services import questions
from trauma_api.services.gate import GateState

BRIEFINGS, STREAMS_PER_BRIEFING, ANSWERS = 8, 50, 100
RESETS, RESETS_AT_ONCE = 1000, 50
STORE_CONNECTIONS = 64
"""The store keeps so many open for good."""

PERMITS, GATE_PLACES, BRIEFING_PLACES = 1, 6, 4
BURST = 10
ADMISSION_LIMIT_S = 10.0

STREAMED = {"Accept": "text/event-stream"}
QUESTION = "Is there blood?"


class Scene:
    """A service whose models can be held, with a study and a finished briefing on it."""

    def __init__(self, service: RunningService, client: httpx.Client, hold: Callable[[bool], None]) -> None:
        self.service, self.client, self.hold = service, client, hold
        self.study_id: str = upload_slices(client, 4)["study_id"]
        hold(False)
        self.briefing = self.finished(self.started())
        self.loop = EventLoop(service)
        # The first stream of a loop that has to wait starts what watches over all of them.
        client.post(self.briefing["links"]["questions_url"], headers=STREAMED, json={"question": QUESTION})
        self.idle_tasks = self.loop.tasks()
        hold(True)

    @property
    def gate(self) -> GateState:
        """How busy the models are."""
        return self.service.container.gate.state

    def started(self) -> dict[str, Any]:
        """A briefing, taken."""
        response = self.client.post("/v1/briefings", json={"study_id": self.study_id})
        assert response.status_code == 202, response.text
        briefing: dict[str, Any] = response.json()
        return briefing

    def finished(self, briefing: dict[str, Any]) -> dict[str, Any]:
        """The same once it has ended."""
        ended: dict[str, Any] = self.client.get(f"{briefing['links']['self_url']}?wait=20").json()
        assert ended["status"] == "done", ended["failure"]
        return ended

    async def stream(self, path: str, question: str | None = None) -> Stream:
        """A stream of events, asked for."""
        return await Stream.open(self.service.url + path, question)

    async def until_gate_is(self, *, admitted: int, running: int, waiting: int) -> None:
        """Wait until so many jobs are admitted, and so many model calls run and wait."""
        await until_equal(lambda: self.gate, GateState(admitted, running, waiting))

    async def wait_until_nothing_is_left(self) -> None:
        """Wait until the gate is idle and no task is there that was not at the start."""
        await self.until_gate_is(admitted=0, running=0, waiting=0)
        await until_equal(lambda: self.loop.tasks() - self.idle_tasks, Counter())


@contextmanager
def scene(engines: Engines, hold: Callable[[bool], None], **settings: Any) -> Iterator[Scene]:
    """A scene, whose models are let go at the end."""
    with open_files_allowed(4096), quick_service(engines, **settings) as (service, client):
        try:
            yield Scene(service, client, hold)
        finally:
            hold(False)


def scene_with(reader: SlowReader, **settings: Any) -> Any:
    """A scene with a reader that is held."""

    def hold(held: bool) -> None:
        (reader.release.clear if held else reader.release.set)()

    return scene(small_engines(reader=reader), hold, **settings)


@pytest.fixture
def wide() -> Iterator[Scene]:
    """With a place for every question."""
    with scene_with(SlowReader(), gate_queue=2 * RESETS) as wide:
        yield wide


@pytest.fixture
def narrow() -> Iterator[Scene]:
    """With few places."""
    places = {"gate_permits": PERMITS, "gate_queue": GATE_PLACES - PERMITS, "briefing_queue": BRIEFING_PLACES}
    with scene_with(SlowReader(), **places) as narrow:
        yield narrow


class TestManyStreams:
    async def test_five_hundred_at_once_are_all_served_to_their_ends(self, wide: Scene) -> None:
        files_before = open_files()
        followed = [wide.started()["links"]["events_url"] for _ in range(BRIEFINGS)] * STREAMS_PER_BRIEFING
        asked = wide.loop.open_sessions(wide.briefing, ANSWERS)
        streams = [await wide.stream(path) for path in followed] + [await wide.stream(path, QUESTION) for path in asked]
        async with asyncio.timeout(LIMIT_S):
            first = await asyncio.gather(*(stream.first_event() for stream in streams))
            wide.hold(False)
            rest = await asyncio.gather(*(stream.rest() for stream in streams))
        assert Counter(name for name, _, _ in first) == {"queued": len(followed), "status": len(asked)}
        assert {events[-1][0] for events in rest} == {"done"}
        logs = [[begin, *events] for begin, events in zip(first, rest, strict=True)][: len(followed)]
        for number, log in enumerate(logs):
            assert log == logs[number % BRIEFINGS]
            assert [event_id for _, _, event_id in log] == [str(place) for place in range(1, len(log) + 1)]
        for events in rest[len(followed) :]:
            said = "".join(payload["text"] for name, payload, _ in events if name == "token")
            assert said == events[-1][1]["answer"]["text"] != ""
        await wide.wait_until_nothing_is_left()
        assert open_files() <= files_before + STORE_CONNECTIONS


class TestManyResets:
    async def test_a_thousand_leave_nothing_behind_and_the_next_request_is_served(
        self, wide: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # So often that many clients leave in the very moment in which the store is asked.
        monkeypatch.setattr(questions, "CLAIM_RENEWAL_S", 0.1)
        running = wide.started()
        asked = wide.loop.open_sessions(wide.briefing, RESETS // 2)
        await until_equal(lambda: (wide.gate.admitted, wide.gate.running), (1, 1))
        places = asyncio.Semaphore(RESETS_AT_ONCE)

        async def reset(path: str, question: str | None, *, early: bool) -> str | None:
            """The id of the answer, where one was begun for sure."""
            async with places:
                stream = await wide.stream(path, question)
                _, payload, _ = ("", {}, None) if early else await stream.first_event()
                stream.reset()
                return payload.get("answer_id")

        resets = [
            one
            for number, path in enumerate(asked)
            for one in (
                reset(path, QUESTION, early=number % 2 == 0),
                reset(running["links"]["events_url"], None, early=number % 2 == 0),
            )
        ]
        answer_ids = await asyncio.gather(*resets)
        # Left is the briefing that everybody followed, which the reader still holds.
        await wide.until_gate_is(admitted=1, running=1, waiting=0)
        begun = [(path, answer) for path, answer in zip(asked, answer_ids[::2], strict=True) if answer is not None]
        assert len(begun) == RESETS // 4
        for path, answer_id in begun[::25]:
            assert wide.client.get(f"{path}/{answer_id}").json()["status"] == "stopped"
        wide.hold(False)
        wide.finished(running)
        await wide.wait_until_nothing_is_left()
        for path in asked[::25]:
            assert wide.client.post(path, json={"question": QUESTION}).json()["status"] == "done"


async def leave_at_its_end(service: RunningService, session_id: str, *, stopped_before: bool) -> None:
    """Ask, and leave when the answer has given back its place and is about to give back its session."""
    running = await service.container.questions.ask(session_id, QuestionRequest(question=QUESTION))
    if stopped_before:
        running.stop()
    while service.container.gate.state.admitted:  # noqa: ASYNC110  # step by step, to hit that moment
        await asyncio.sleep(0)
    running.leave()
    async with asyncio.timeout(LIMIT_S):
        await running.ended.wait()


class TestLeavingAtTheEnd:
    @pytest.mark.parametrize("stopped_before", [False, True], ids=["of an answer", "of a stopped answer"])
    def test_does_not_break_the_end_off(self, wide: Scene, stopped_before: bool) -> None:
        wide.hold(stopped_before)
        path = wide.loop.open_sessions(wide.briefing, 1)[0]
        session_id = path.split("/")[3]
        wide.loop.run(leave_at_its_end(wide.service, session_id, stopped_before=stopped_before))
        wide.hold(False)
        assert wide.client.post(path, json={"question": QUESTION}).json()["status"] == "done"


class HeldTriage(ConstantTriage):
    """Is held at every batch."""

    def __init__(self, holds: Holds) -> None:
        super().__init__()
        self._holds = holds

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Wait, then score."""
        self._holds.wait()
        return super().score(slices)


class HeldReader(ScriptedReader):
    """Is held at every request, deaf to its caller meanwhile, as a model is between two tokens."""

    def __init__(self, holds: Holds) -> None:
        super().__init__()
        self._holds = holds

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Wait, then write."""
        self._holds.wait()
        return super().generate(request, on_text, cancelled)


@pytest.fixture
def holds() -> Holds:
    return Holds()


@pytest.fixture
def single(holds: Holds) -> Iterator[Scene]:
    """One permit for two models that are held."""
    engines = small_engines(triage=HeldTriage(holds), reader=HeldReader(holds))
    with scene(engines, lambda held: holds.set_open(not held), gate_permits=1) as single:
        yield single


async def begun(holds: Holds, count: int) -> None:
    """Wait until so many model calls have begun since the service started."""
    await until_equal(lambda: holds.begun, count)


class TestOnePermit:
    async def test_five_clients_that_leave_at_once_never_make_two_jobs_run(self, single: Scene, holds: Holds) -> None:
        before = holds.begun
        streams = [await single.stream(path, QUESTION) for path in single.loop.open_sessions(single.briefing, 5)]
        await single.until_gate_is(admitted=5, running=1, waiting=4)
        await begun(holds, before + 1)
        for stream in streams:
            stream.reset()
        # All have left, and the model is still on the first one's job: the permit is not free.
        await single.until_gate_is(admitted=0, running=1, waiting=0)
        async with httpx.AsyncClient(base_url=single.service.url) as client:
            following = asyncio.create_task(client.post("/v1/triage", json={"study_id": single.study_id}))
            await single.until_gate_is(admitted=1, running=1, waiting=1)
            holds.let_one_go()
            await begun(holds, before + 2)
            holds.let_one_go()
            assert (await following).status_code == 200
        await single.wait_until_nothing_is_left()
        assert (holds.begun, holds.peak) == (before + 2, 1)

    async def test_five_clients_that_leave_in_turn_never_make_two_jobs_run(self, single: Scene, holds: Holds) -> None:
        before = holds.begun
        asked = single.loop.open_sessions(single.briefing, 5)
        for number in range(5):
            # By turns the reader's job and one of triage, which have threads of their own.
            stream = await single.stream(asked[number], QUESTION) if number % 2 == 0 else None
            briefing = single.started() if stream is None else None
            if number > 0:
                await until_equal(lambda: (single.gate.admitted, single.gate.waiting > 0), (1, True))
                assert holds.now == 1
                holds.let_one_go()
            await begun(holds, before + number + 1)
            if stream is not None:
                stream.reset()
            if briefing is not None:
                assert single.client.delete(briefing["links"]["self_url"]).json()["status"] == "cancelled"
            await single.until_gate_is(admitted=0, running=1, waiting=0)
        single.hold(False)
        single.finished(single.started())
        await single.wait_until_nothing_is_left()
        assert holds.peak == 1


async def in_time(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    """A response, once its head is there; a stream's body is still to be read."""
    request = client.build_request("POST", path, json=body, headers=STREAMED)
    async with asyncio.timeout(ADMISSION_LIMIT_S):
        return await client.send(request, stream=True)


class TestBursts:
    async def test_briefings_are_taken_or_refused_in_time_and_those_taken_end(self, narrow: Scene) -> None:
        running = narrow.started()
        await until_equal(lambda: narrow.gate.running, 1)
        async with httpx.AsyncClient(base_url=narrow.service.url) as client:
            sent = (
                in_time(client, "/v1/briefings", {"study_id": narrow.study_id}) for _ in range(BURST * BRIEFING_PLACES)
            )
            answers = await asyncio.gather(*sent)
            for answer in answers:
                await answer.aread()
        taken = [answer.json() for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert len(taken) == BRIEFING_PLACES - 1
        for answer in refused:
            problem_in(answer, 503, "briefing-queue-full")
        narrow.hold(False)
        for briefing in [running, *taken]:
            narrow.finished(briefing)
        await narrow.wait_until_nothing_is_left()

    async def test_questions_are_taken_or_refused_in_time_and_those_taken_end(self, narrow: Scene) -> None:
        running = narrow.started()
        asked = narrow.loop.open_sessions(narrow.briefing, BURST * GATE_PLACES)
        await until_equal(lambda: narrow.gate.running, 1)
        async with httpx.AsyncClient(base_url=narrow.service.url) as client:
            answers = await asyncio.gather(*(in_time(client, path, {"question": QUESTION}) for path in asked))
            taken = [answer for answer in answers if answer.status_code == 200]
            assert len(taken) == GATE_PLACES - 1
            for answer in answers:
                if answer not in taken:
                    await answer.aread()
                    problem_in(answer, 503, "queue-full")
            narrow.hold(False)
            for answer in taken:
                lines = [line async for line in answer.aiter_lines()]
                assert list(parse_events(iter(lines)))[-1][0] == "done"
        narrow.finished(running)
        await narrow.wait_until_nothing_is_left()
