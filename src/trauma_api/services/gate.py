"""The gate in front of the models: bounded admission, bounded running work, one owner thread per model.

Whoever waits goes by what waits for it: a question first, because a person waits for its first word; then what is
stat; then reading before triage before segmentation, so that the longest chain of a briefing goes on. Work is cut into
tiles of slices, and reading lets questions in between two tokens and between the parts of a long prompt, so that nobody
waits for a whole study.

A permit belongs to the work, not to the waiter: it comes back when the thread has ended, also when the client that
waited for it left long before. Cancelling a waiter only asks the work to stop.
"""

import asyncio
import itertools
import math
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from trauma_api.engines.base import Role
from trauma_api.errors import UnavailableError

T = TypeVar("T")
Stage = Literal["question", "reading", "triage", "segmentation"]
"""What a model call is for, most urgent first."""

_STAGES: tuple[Stage, ...] = get_args(Stage)
MODEL_OF: dict[Stage, Role] = {
    "question": "reader",
    "reading": "reader",
    "triage": "triage",
    "segmentation": "segmenter",
}
_IN_TILES: tuple[Stage, ...] = ("triage", "segmentation")

stat: ContextVar[bool] = ContextVar("stat", default=False)
"""Whether what this task asks of the gate goes before what is routine."""


class GateBusyError(UnavailableError):
    """As many jobs as are allowed are running or waiting."""

    code = "queue-full"
    title = "Queue full"
    public_message = "The service is working on as much as it can. Try again after the time in Retry-After."

    def __init__(self, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class GateState:
    """Jobs admitted, and model calls running and waiting."""

    admitted: int
    running: int
    waiting: int


@dataclass(order=True)
class _Call:
    """A model call that waits or runs; calls compare by who goes first."""

    urgency: tuple[bool, bool, int, int]
    stage: Stage = field(compare=False)
    work: Callable[[], Any] = field(compare=False)
    result: Future[Any] = field(compare=False, default_factory=Future)

    def settle(self) -> None:
        """Do the work on this thread; whoever waits gets what it returns or raises."""
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            returned = self.work()
        except BaseException as error:  # noqa: BLE001  # belongs to whoever waits, whatever it is
            self.result.set_exception(error)
        else:
            self.result.set_result(returned)


@dataclass(frozen=True)
class Cores:
    """Threads for a model's operations: ``alone`` for a tile beside which no other model has work, else ``shared``.

    ``use`` sets their number for the thread that calls it. A text takes its share only, as it runs for long, and others
    would have to wait for its threads.
    """

    alone: int
    shared: int
    use: Callable[[int], None]


_LEFT_ALONE = Cores(alone=0, shared=0, use=lambda _count: None)


class _Lane:
    """One model: its owner thread, and whether it is busy."""

    def __init__(self, name: str) -> None:
        self.busy = False
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{name}")


class ComputeGate:
    """Admits jobs, and runs their model calls: at most ``permits`` at once, each model on its own thread."""

    def __init__(self, *, permits: int, queue_limit: int, cores: Cores = _LEFT_ALONE) -> None:
        """Without ``cores`` the number of threads is left alone."""
        self._cores = cores
        self._permit_count = permits
        self._admission_limit = permits + queue_limit
        self._lanes = {name: _Lane(name) for name in sorted(set(MODEL_OF.values()))}
        self._numbers = itertools.count()
        # guards what waits: the event loop and the models' threads both take from it
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []
        self._admitted = 0
        self._running = 0
        self._job_seconds = 1.0

    @property
    def state(self) -> GateState:
        """How busy it is."""
        return GateState(self._admitted, self._running, len(self._waiting))

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Hold a place for one job. Raises GateBusyError when there is none."""
        if self._admitted >= self._admission_limit:
            expected = self._job_seconds * self._admitted / self._permit_count
            raise GateBusyError(retry_after_s=min(60, max(1, math.ceil(expected))))
        self._admitted += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._admitted -= 1
            self._job_seconds = 0.8 * self._job_seconds + 0.2 * (time.monotonic() - began)

    async def run(self, stage: Stage, work: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Run ``work`` on its model's thread. When the caller is cancelled, ``stop`` is set for the work to see."""
        urgency = (stage != "question", not stat.get(), _STAGES.index(stage), next(self._numbers))
        call = _Call(urgency, stage, work)
        with self._lock:
            insort(self._waiting, call)
        self._start_what_may()
        try:
            result: T = await asyncio.shield(_quiet(call.result))
        except asyncio.CancelledError:
            self._withdraw(call)
            if stop is not None:
                stop.set()
            raise
        return result

    def answer_questions(self) -> None:
        """Run the questions that wait for the reader now. For work on the reader's thread, between two tokens."""
        while (call := self._take(lambda one: one.stage == "question")) is not None:
            call.settle()

    def _start_what_may(self) -> None:
        """Give out what permits and models are free; on the event loop."""
        loop = asyncio.get_running_loop()
        while self._running < self._permit_count:
            call = self._take(lambda one: not self._lanes[MODEL_OF[one.stage]].busy)
            if call is None:
                return
            lane = self._lanes[MODEL_OF[call.stage]]
            lane.busy = True
            threads = self._threads_for(call)
            self._running += 1
            lane.thread.submit(self._work_on, call, threads).add_done_callback(
                partial(self._release_from_thread, loop, lane)
            )

    def _threads_for(self, call: _Call) -> int:
        # what waits for the same model cannot run beside it
        with self._lock:
            beside = self._running or any(MODEL_OF[one.stage] != MODEL_OF[call.stage] for one in self._waiting)
        return self._cores.shared if beside or call.stage not in _IN_TILES else self._cores.alone

    def _work_on(self, call: _Call, threads: int) -> None:
        self._cores.use(threads)
        call.settle()

    def _take(self, may: Callable[[_Call], bool]) -> _Call | None:
        """The first of those that wait and may run; it waits no longer."""
        with self._lock:
            for place, call in enumerate(self._waiting):
                if may(call):
                    return self._waiting.pop(place)
        return None

    def _withdraw(self, call: _Call) -> None:
        with self._lock, suppress(ValueError):
            self._waiting.remove(call)

    def _release_from_thread(self, loop: asyncio.AbstractEventLoop, lane: _Lane, _ended: Future[None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release, lane)

    def _release(self, lane: _Lane) -> None:
        self._running -= 1
        lane.busy = False
        self._start_what_may()

    def close(self) -> None:
        """Take no more work; threads end with the call they are on."""
        for lane in self._lanes.values():
            lane.thread.shutdown(wait=False, cancel_futures=True)


def _quiet(future: Future[T]) -> asyncio.Future[T]:
    """Wrap for awaiting; an error that nobody waits for any more is not reported as never retrieved."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return wrapped
