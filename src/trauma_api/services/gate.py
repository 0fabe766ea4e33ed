"""The gate in front of the models: bounded admission, bounded running work, one owner thread per model.

A permit belongs to the work, not to the waiter: it comes back when the thread has ended, also when the client that
waited for it left long before. Cancelling a waiter only asks the work to stop.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from trauma_api.errors import UnavailableError

T = TypeVar("T")
Lane = Literal["triage", "reader", "segmenter"]


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


class _Lane:
    """One model: its owner thread, and the turn to use it."""

    def __init__(self, name: str) -> None:
        self.turn = asyncio.Semaphore(1)
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{name}")


class ComputeGate:
    """Admits jobs, and runs their model calls: at most ``permits`` at once, each model on its own thread."""

    def __init__(self, *, permits: int, queue_limit: int) -> None:
        self._permit_count = permits
        self._admission_limit = permits + queue_limit
        self._permits = asyncio.Semaphore(permits)
        self._lanes: dict[str, _Lane] = {name: _Lane(name) for name in ("triage", "reader", "segmenter")}
        self._admitted = 0
        self._running = 0
        self._waiting = 0
        self._job_seconds = 1.0

    @property
    def state(self) -> GateState:
        """How busy it is."""
        return GateState(self._admitted, self._running, self._waiting)

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

    async def run(self, lane_name: Lane, work: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Run ``work`` on the model's thread. When the caller is cancelled, ``stop`` is set for the work to see."""
        lane = self._lanes[lane_name]
        await self._acquire(lane)
        loop = asyncio.get_running_loop()
        future = lane.thread.submit(work)
        future.add_done_callback(lambda _: self._release_from_thread(loop, lane))
        try:
            return await asyncio.shield(_quiet(future))
        except asyncio.CancelledError:
            if stop is not None:
                stop.set()
            raise

    async def _acquire(self, lane: _Lane) -> None:
        self._waiting += 1
        try:
            await lane.turn.acquire()
            try:
                await self._permits.acquire()
            except asyncio.CancelledError:
                lane.turn.release()
                raise
        finally:
            self._waiting -= 1
        self._running += 1

    def _release_from_thread(self, loop: asyncio.AbstractEventLoop, lane: _Lane) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release, lane)

    def _release(self, lane: _Lane) -> None:
        self._running -= 1
        self._permits.release()
        lane.turn.release()

    def close(self) -> None:
        """Take no more work; threads end with the call they are on."""
        for lane in self._lanes.values():
            lane.thread.shutdown(wait=False, cancel_futures=True)


def _quiet(future: Future[T]) -> asyncio.Future[T]:
    """Wrap for awaiting; an error that nobody waits for any more is not reported as never retrieved."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return wrapped
