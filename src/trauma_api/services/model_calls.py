"""Calls of one model through the gate: watched, and in tiles of slices that become smaller where memory is short."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from trauma_api.engines.base import EngineDeviceLostError, EngineOutOfMemoryError
from trauma_api.log import get_logger
from trauma_api.services.gate import MODEL_OF, ComputeGate, Stage
from trauma_api.services.model_watch import ModelWatch

T = TypeVar("T")

MakeRoom = Callable[[], Awaitable[object]]
"""Frees what the device's memory holds and can be done without."""

logger = get_logger()


async def make_no_room() -> None:
    """For a model beside which nothing is kept."""


class ModelCalls:
    """Does the work of a model."""

    def __init__(self, gate: ComputeGate, watch: ModelWatch | None, make_room: MakeRoom = make_no_room) -> None:
        """Without a ``watch`` nobody is told."""
        self._gate, self._make_room = gate, make_room
        self._watch = watch or ModelWatch()

    async def run(self, stage: Stage, work: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Do ``work`` on the model's thread. Raises what it raises."""
        try:
            result = await self._gate.run(stage, work, stop)
        except EngineDeviceLostError:
            self._watch.lose_device()
            raise
        self._watch.worked(MODEL_OF[stage])
        return result

    async def run_in_tiles(
        self,
        stage: Stage,
        work: Callable[[int, int], T],
        slice_count: int,
        tile_slices: int,
        on_progress: Callable[[int, int], None],
    ) -> list[T]:
        """Do ``work`` on tiles, each from a slice to before another, and return what came of each.

        Where memory is short, room is made and the tile is halved, down to one slice, until this work is done. Raises
        EngineOutOfMemoryError where one slice does not fit after room was made.
        """
        done: list[T] = []
        start, made_room = 0, False
        while start < slice_count:
            stop = min(start + tile_slices, slice_count)
            try:
                done.append(await self.run(stage, partial(work, start, stop)))
            except EngineOutOfMemoryError:
                if made_room and stop - start == 1:
                    raise
            else:
                start, made_room = stop, False
                on_progress(stop, slice_count)
                continue
            # outside the except block, as the exception keeps the frames that it came through
            tile_slices, made_room = max(1, (stop - start) // 2), True
            logger.warning("memory.short", stage=stage, tile_slices=tile_slices)
            await self._make_room()
        return done
