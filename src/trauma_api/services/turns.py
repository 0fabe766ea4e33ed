"""Turns of which there are only so many, and what is stat gets the next one."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A semaphore with two queues."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._stat: deque[asyncio.Future[None]] = deque()
        self._routine: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, stat: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        await self._acquire(self._stat if stat else self._routine)
        try:
            yield
        finally:
            self._give_on()

    async def _acquire(self, queue: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._give_on()  # cancelled in the moment in which it was given
            elif mine in queue:
                queue.remove(mine)
            raise

    def _give_on(self) -> None:
        for queue in (self._stat, self._routine):
            while queue:
                following = queue.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self._free += 1
