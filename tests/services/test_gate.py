"""The gate: what runs at once, when a permit returns, and who is refused."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import get_args

import pytest

from tests.support.waiting import LIMIT_S, until
from trauma_api.services.gate import ComputeGate, Cores, GateBusyError, GateState, Stage, stat

STAGES: tuple[Stage, ...] = get_args(Stage)
LANES: tuple[Stage, ...] = ("reading", "triage", "segmentation")
"""One stage of each model."""


class Meter:
    """Counts how much work runs at once, and keeps the peak."""

    def __init__(self) -> None:
        self.peak = 0
        self.finished = 0
        self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the work."""
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1
                self.finished += 1


class HeldWork:
    """Work that ends when it is released; ``began`` is set by the thread that runs it."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.began = threading.Event()
        self.release = threading.Event()
        self._meter = meter or Meter()

    def __call__(self) -> str:
        with self._meter.running():
            self.began.set()
            assert self.release.wait(LIMIT_S)
            return "done"


@pytest.fixture
def gate() -> Iterator[ComputeGate]:
    """One permit, ten places to wait."""
    gate = ComputeGate(permits=1, queue_limit=10)
    yield gate
    gate.close()


@pytest.fixture
def wide_gate() -> Iterator[ComputeGate]:
    """Two permits, ten places to wait."""
    gate = ComputeGate(permits=2, queue_limit=10)
    yield gate
    gate.close()


class TestRun:
    async def test_returns_what_the_work_returns(self, gate: ComputeGate) -> None:
        assert await gate.run("reading", lambda: 42) == 42
        await until(lambda: gate.state == GateState(0, 0, 0))

    async def test_cancelled_callers_never_make_two_run_on_one_permit(self, gate: ComputeGate) -> None:
        meter = Meter()
        works = [HeldWork(meter) for _ in range(5)]
        lanes: tuple[Stage, ...] = ("reading", "triage", "segmentation", "reading", "triage")
        for work, lane in zip(works, lanes, strict=True):
            # Each caller is cancelled while its work runs: without the shield the next work would start beside it.
            caller = asyncio.create_task(gate.run(lane, work))
            await until(work.began.is_set)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            following = asyncio.create_task(gate.run("segmentation", lambda: "next"))
            await asyncio.sleep(0.02)
            assert not following.done()
            assert gate.state.running == 1
            work.release.set()
            assert await following == "next"
        assert meter.peak == 1
        assert meter.finished == 5

    async def test_five_callers_cancelled_at_once_leave_one_running(self, gate: ComputeGate) -> None:
        meter = Meter()
        works = [HeldWork(meter) for _ in range(5)]
        callers = [asyncio.create_task(gate.run("reading", work)) for work in works]
        await until(works[0].began.is_set)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        # The first one's thread is still in the model; the others never got there.
        assert gate.state == GateState(admitted=0, running=1, waiting=0)
        works[0].release.set()
        await until(lambda: gate.state.running == 0)
        assert (meter.peak, meter.finished) == (1, 1)

    async def test_a_permit_returns_only_when_the_thread_ends(self, gate: ComputeGate) -> None:
        work = HeldWork()
        caller = asyncio.create_task(gate.run("reading", work))
        await until(work.began.is_set)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert gate.state.running == 1
        work.release.set()
        await until(lambda: gate.state.running == 0)

    async def test_cancelling_sets_the_stop_event(self, gate: ComputeGate) -> None:
        stop = threading.Event()
        caller = asyncio.create_task(gate.run("reading", lambda: stop.wait(LIMIT_S), stop))
        await until(lambda: gate.state.running == 1)
        assert not stop.is_set()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert stop.is_set()
        await until(lambda: gate.state.running == 0)

    async def test_an_error_in_the_work_is_raised_and_returns_the_permit(self, gate: ComputeGate) -> None:
        def fail() -> None:
            raise ValueError("on purpose")

        with pytest.raises(ValueError, match="on purpose"):
            await gate.run("reading", fail)
        assert await gate.run("reading", lambda: "works") == "works"

    async def test_an_error_after_the_caller_left_returns_the_permit(self, gate: ComputeGate) -> None:
        release = threading.Event()

        def fail() -> None:
            release.wait(LIMIT_S)
            raise ValueError("nobody waits for this")

        caller = asyncio.create_task(gate.run("reading", fail))
        await until(lambda: gate.state.running == 1)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        release.set()
        assert await gate.run("reading", lambda: "works") == "works"

    async def test_different_models_run_beside_each_other(self, wide_gate: ComputeGate) -> None:
        # The barrier opens only when both are inside at the same time.
        barrier = threading.Barrier(2, timeout=LIMIT_S)
        await asyncio.gather(wide_gate.run("reading", barrier.wait), wide_gate.run("segmentation", barrier.wait))

    async def test_one_model_never_runs_twice_at_once(self, wide_gate: ComputeGate) -> None:
        meter = Meter()
        first, second = HeldWork(meter), HeldWork(meter)
        callers = [asyncio.create_task(wide_gate.run("reading", work)) for work in (first, second)]
        await until(first.began.is_set)
        await asyncio.sleep(0.02)
        assert not second.began.is_set()
        assert wide_gate.state == GateState(admitted=0, running=1, waiting=1)
        first.release.set()
        second.release.set()
        await asyncio.gather(*callers)
        assert meter.peak == 1

    async def test_each_model_has_one_thread_of_its_own(self, wide_gate: ComputeGate) -> None:
        names = {lane: {await wide_gate.run(lane, threading.get_ident) for _ in range(3)} for lane in LANES}
        assert all(len(threads) == 1 for threads in names.values())
        assert len(set.union(*names.values())) == len(LANES)

    async def test_a_waiter_cancelled_before_its_turn_frees_its_place(self, gate: ComputeGate) -> None:
        work = HeldWork()
        running = asyncio.create_task(gate.run("reading", work))
        await until(work.began.is_set)
        ran: list[str] = []
        for lane in ("reading", "triage"):  # one waits for its model, the other for a permit
            waiter = asyncio.create_task(gate.run(lane, lambda: ran.append("cancelled")))
            await until(lambda: gate.state.waiting == 1)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            assert gate.state.waiting == 0
        work.release.set()
        await running
        assert await gate.run("triage", lambda: "works") == "works"
        assert await gate.run("reading", lambda: "works") == "works"
        assert ran == []

    async def test_random_cancellations_leave_the_gate_idle_and_never_over_its_permits(
        self, wide_gate: ComputeGate
    ) -> None:
        chance = random.Random(5)  # noqa: S311
        meter = Meter()
        by_lane = {lane: Meter() for lane in LANES}

        def work_on(lane: Stage) -> None:
            with meter.running(), by_lane[lane].running():
                time.sleep(0.003)

        callers: list[asyncio.Task[None]] = []
        for _ in range(60):
            lane = chance.choice(LANES)
            callers.append(asyncio.create_task(wide_gate.run(lane, partial(work_on, lane))))
            await asyncio.sleep(chance.choice((0, 0.001, 0.004)))
            if chance.random() < 0.4:
                chance.choice(callers).cancel()
        ends = await asyncio.gather(*callers, return_exceptions=True)
        await until(lambda: wide_gate.state == GateState(0, 0, 0))
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert any(isinstance(end, asyncio.CancelledError) for end in ends)
        assert meter.peak == 2
        assert {lane: each.peak for lane, each in by_lane.items()} == dict.fromkeys(LANES, 1)


class TestOrder:
    async def order_of(self, gate: ComputeGate, calls: list[tuple[Stage, bool]]) -> list[tuple[Stage, bool]]:
        """In which order calls ran that all waited for one that held the gate."""
        held, order = HeldWork(), []
        first = asyncio.create_task(gate.run("triage", held))
        await until(held.began.is_set)

        async def ask(stage: Stage, *, urgent: bool) -> None:
            stat.set(urgent)
            await gate.run(stage, lambda: order.append((stage, urgent)))

        waiting = [asyncio.create_task(ask(stage, urgent=urgent)) for stage, urgent in calls]
        await until(lambda: gate.state.waiting == len(calls))
        held.release.set()
        await asyncio.gather(first, *waiting)
        return order

    async def test_questions_go_first_and_segmentation_last(self, gate: ComputeGate) -> None:
        calls = [(stage, False) for stage in reversed(STAGES)]
        assert await self.order_of(gate, calls) == [(stage, False) for stage in STAGES]

    async def test_stat_goes_before_routine_but_not_before_a_question(self, gate: ComputeGate) -> None:
        calls: list[tuple[Stage, bool]] = [
            ("reading", False),
            ("segmentation", True),
            ("triage", True),
            ("question", False),
        ]
        assert await self.order_of(gate, calls) == [
            ("question", False),
            ("triage", True),
            ("segmentation", True),
            ("reading", False),
        ]

    async def test_equals_go_in_the_order_in_which_they_came(self, gate: ComputeGate) -> None:
        order: list[int] = []
        held = HeldWork()
        first = asyncio.create_task(gate.run("triage", held))
        await until(held.began.is_set)
        waiting = [asyncio.create_task(gate.run("triage", partial(order.append, number))) for number in range(5)]
        await until(lambda: gate.state.waiting == 5)
        held.release.set()
        await asyncio.gather(first, *waiting)
        assert order == list(range(5))

    async def test_reading_lets_questions_in_on_its_own_thread(self, gate: ComputeGate) -> None:
        asked = threading.Event()

        def read() -> tuple[str, int]:
            assert asked.wait(LIMIT_S)
            gate.answer_questions()
            return "read", threading.get_ident()

        reading = asyncio.create_task(gate.run("reading", read))
        question = asyncio.create_task(gate.run("question", threading.get_ident))
        gone = asyncio.create_task(gate.run("question", partial(pytest.fail, "its caller has left")))
        await until(lambda: gate.state == GateState(admitted=0, running=1, waiting=2))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert not reading.done()
        asked.set()
        thread = await question
        assert await reading == ("read", thread)
        await until(lambda: gate.state == GateState(0, 0, 0))

    async def test_a_question_that_fails_within_a_reading_fails_alone(self, gate: ComputeGate) -> None:
        asked = threading.Event()

        def read() -> str:
            assert asked.wait(LIMIT_S)
            gate.answer_questions()
            return "read"

        def fail() -> None:
            raise ValueError("on purpose")

        reading = asyncio.create_task(gate.run("reading", read))
        question = asyncio.create_task(gate.run("question", fail))
        await until(lambda: gate.state.waiting == 1)
        asked.set()
        with pytest.raises(ValueError, match="on purpose"):
            await question
        assert await reading == "read"


class TestCores:
    async def test_a_tile_alone_has_all_threads_and_others_their_share(self) -> None:
        used: list[tuple[str, int]] = []
        gate = ComputeGate(
            permits=2,
            queue_limit=4,
            cores=Cores(
                alone=8, shared=4, use=lambda count: used.append((threading.current_thread().name[:12], count))
            ),
        )
        await gate.run("segmentation", lambda: None)
        await gate.run("reading", lambda: None)
        held = HeldWork()
        first = asyncio.create_task(gate.run("triage", held))
        await until(held.began.is_set)
        await gate.run("segmentation", lambda: None)
        held.release.set()
        await first
        gate.close()
        assert used == [("model-segmen", 8), ("model-reader", 4), ("model-triage", 8), ("model-segmen", 4)]

    @pytest.mark.parametrize(
        ("stages", "threads"),
        [(["segmentation", "segmentation"], [4, 8, 8]), (["triage", "segmentation"], [4, 4, 8])],
    )
    async def test_what_waits_for_the_same_model_takes_no_threads_from_a_tile(
        self, stages: list[Stage], threads: list[int]
    ) -> None:
        used: list[int] = []
        gate = ComputeGate(permits=1, queue_limit=4, cores=Cores(alone=8, shared=4, use=used.append))
        held = HeldWork()
        reading = asyncio.create_task(gate.run("reading", held))
        await until(held.began.is_set)
        tiles = [asyncio.create_task(gate.run(stage, lambda: None)) for stage in stages]
        await until(lambda: gate.state.waiting == 2)
        held.release.set()
        await asyncio.gather(reading, *tiles)
        gate.close()
        assert used == threads


class TestAdmission:
    def test_as_many_jobs_as_permits_and_queue_are_admitted(self) -> None:
        gate = ComputeGate(permits=1, queue_limit=2)
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(gate.admission())
            assert gate.state.admitted == 3
            with pytest.raises(GateBusyError) as refused, gate.admission():
                pass
            assert refused.value.code == "queue-full"
            assert refused.value.retryable
            assert 1 <= refused.value.retry_after_s <= 60
            assert gate.state.admitted == 3
        assert gate.state.admitted == 0
        gate.close()

    def test_a_place_comes_back_after_an_error(self) -> None:
        gate = ComputeGate(permits=1, queue_limit=0)
        with pytest.raises(ValueError, match="in the job"), gate.admission():
            raise ValueError("in the job")
        with gate.admission():
            assert gate.state.admitted == 1
        gate.close()
