"""Turns: so many at once, stat before routine, and none lost to callers that leave."""

import asyncio

from trauma_api.services.turns import Turns


async def queued(turns: Turns, names: list[str]) -> tuple[list[str], list[asyncio.Task[None]], asyncio.Event]:
    """Callers that wait for a turn, those whose name begins with s as stat; in which order they got it."""
    order: list[str] = []
    go_on = asyncio.Event()

    async def take(name: str) -> None:
        async with turns.turn(stat=name.startswith("s")):
            order.append(name)
            await go_on.wait()

    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(take(name)))
        await asyncio.sleep(0)
    return order, tasks, go_on


async def test_as_many_as_there_are_run_at_once() -> None:
    order, tasks, go_on = await queued(Turns(2), ["a", "b", "c"])
    assert order == ["a", "b"]
    go_on.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]


async def test_stat_gets_the_next_turn() -> None:
    order, tasks, go_on = await queued(Turns(1), ["a", "b", "s1", "c", "s2"])
    go_on.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "s1", "s2", "b", "c"]


async def test_callers_that_leave_lose_no_turn() -> None:
    order, tasks, go_on = await queued(turns := Turns(1), ["a", "b", "c"])
    tasks[1].cancel()
    go_on.set()
    # the first has given its turn to the third by now, which leaves before it wakes up
    tasks[0].add_done_callback(lambda _: tasks[2].cancel())
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order[0] == "a"
    assert "b" not in order
    async with asyncio.timeout(1.0), turns.turn(stat=False):
        pass
