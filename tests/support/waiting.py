"""Waiting for what another thread or task does."""

import asyncio
from collections.abc import Callable

LIMIT_S = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  # another thread or task makes it true
            await asyncio.sleep(0.002)
