"""An answer is stopped once, and its end is not broken off."""

import asyncio

from tests.services.test_checked_prose import FACTS, SLICES
from trauma_api.services.checked_prose import ProseCheck
from trauma_api.services.running_answer import RunningAnswer


def running_with(task: asyncio.Task[None]) -> RunningAnswer:
    """An answer that the task writes."""
    running = RunningAnswer("a" * 32, "Is the liver injured?", ProseCheck(FACTS, SLICES, ()), stop_when_left=True)
    running.attach(task)
    return running


async def test_stopping_asks_the_task_to_end_once() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    running = running_with(task)
    running.stop()
    running.stop()
    assert task.cancelling() == 1


async def test_stopping_does_not_break_off_an_end_that_has_begun() -> None:
    task = asyncio.create_task(asyncio.sleep(0.01))
    running = running_with(task)
    running.detach()
    running.stop()
    running.leave()
    await task
