"""Patience with the store: work that is done is not thrown away because Redis restarts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from trauma_api.errors import StoreUnavailableError

T = TypeVar("T")

PAUSE_S = 0.3


async def while_store_is_away(operation: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Repeat an operation while the store does not answer. Raises StoreUnavailableError after ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return await operation()
        except StoreUnavailableError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_S)
