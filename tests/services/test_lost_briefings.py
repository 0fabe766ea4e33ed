"""Briefings that nobody seems to work on, and a store that is asked while tasks are cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.briefings import briefing_without_parts
from tests.support.engines import small_engines
from trauma_api.container import Container, open_container
from trauma_api.schemas.briefings import Briefing
from trauma_api.services import briefings
from trauma_api.services.store import Store, connect
from trauma_api.settings import Settings

STORE_TTL_S, SERVICE_TTL_S = 600, 1800
RUNNING = briefing_without_parts(status="running", finished_at=None)
DONE = briefing_without_parts(status="done")
KEY = f"trauma:briefing:{RUNNING.briefing_id}"


@pytest.fixture
async def container(store: Store, valkey_socket: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Container]:
    """A service on that store, which waits but a moment for a lease to come back."""
    monkeypatch.setattr(briefings, "LOST_LEASE_PAUSE_S", 0.3)
    settings = Settings.model_validate({"redis_url": f"unix://{valkey_socket}", "session_ttl_s": SERVICE_TTL_S})
    async with open_container(settings, small_engines()) as container:
        yield container


async def asked_about(container: Container, store: Store, valkey_socket: str) -> "asyncio.Task[Briefing]":
    """A running briefing that lost its lease, and a task that has found out and waits for the lease to come back."""
    client = connect(None, unix_socket=valkey_socket)
    await store.put_briefing(RUNNING, (), "another process")
    await client.delete(f"{KEY}:lease")
    asking = asyncio.create_task(container.briefings.get(RUNNING.briefing_id))
    # To be asked about keeps a briefing for as long as the service says.
    while await client.ttl(KEY) <= STORE_TTL_S:  # noqa: ASYNC110  # another client makes it true
        await asyncio.sleep(0.005)
    await client.aclose()
    return asking


class TestLostLease:
    async def test_a_briefing_without_a_process_is_interrupted(
        self, container: Container, store: Store, valkey_socket: str
    ) -> None:
        ended = await (await asked_about(container, store, valkey_socket))
        assert ended.failure is not None
        assert (ended.status, ended.failure.code) == ("failed", "interrupted")
        assert await container.briefings.get(RUNNING.briefing_id) == ended

    async def test_an_end_that_comes_meanwhile_stands(
        self, container: Container, store: Store, valkey_socket: str
    ) -> None:
        asking = await asked_about(container, store, valkey_socket)
        await store.put_briefing(DONE, (), "another process")
        assert await asking == DONE
        assert await container.briefings.get(RUNNING.briefing_id) == DONE


class TestCancellation:
    async def test_reaches_who_asks_the_store_at_any_step(self, store: Store) -> None:
        async def ask_forever() -> None:
            while True:
                await store.ping()

        for steps in range(100):
            asking = asyncio.create_task(ask_forever())
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking}, timeout=1.0)
            assert asking.cancelled(), f"not when cancelled after {steps} steps"
