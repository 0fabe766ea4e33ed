"""The journal: state and events are published together, once, and again after they were lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from tests.support.briefings import briefing_without_parts
from trauma_api.schemas.briefings import PartFailure
from trauma_api.services.briefing_journal import BriefingJournal
from trauma_api.services.store import Store, connect

BRIEFING_ID = "b" * 32


@pytest.fixture
def journal(store: Store) -> BriefingJournal:
    """Of a running briefing."""
    now = datetime.now(UTC)
    briefing = briefing_without_parts(BRIEFING_ID, status="running", created_at=now, started_at=now)
    journal = BriefingJournal(briefing, store, "owner")
    journal.add_event("started")
    return journal


@pytest.fixture
async def valkey(valkey_socket: str) -> AsyncIterator[Redis]:
    """The Valkey behind the store."""
    client = connect(None, unix_socket=valkey_socket)
    yield client
    await client.aclose()


async def published(store: Store) -> tuple[str, list[str]]:
    """Status and event types in the store."""
    loaded = await store.load_briefing(BRIEFING_ID)
    assert loaded is not None
    return loaded[0].status, [event.type for event in await store.load_events(BRIEFING_ID, 0)]


class TestPublish:
    async def test_whoever_sees_the_last_event_sees_the_final_state(
        self, journal: BriefingJournal, store: Store
    ) -> None:
        await journal.publish()
        journal.add_event("progress", part="volume", done=1, total=2)
        publishing = asyncio.create_task(journal.publish())
        # Now it waits for Redis, and the briefing ends meanwhile.
        await asyncio.sleep(0)
        journal.finish("done")
        await publishing
        status, types = await published(store)
        assert (status == "done") is ("done" in types), (status, types)
        await journal.publish()
        assert await published(store) == ("done", ["started", "progress", "done"])


class TestFollowers:
    async def test_they_see_what_the_store_has_without_asking_it(self, journal: BriefingJournal, store: Store) -> None:
        def seen(after: int) -> list[str]:
            listed = journal.published_after(after)
            assert listed is not None
            return [event.type for event in listed.events]

        assert seen(0) == []
        await journal.publish()
        journal.add_event("progress", part="volume", done=1, total=2)
        assert seen(0) == ["started"], "what is not published may be lost, and nobody may have seen it"
        await journal.publish()
        assert (seen(0), seen(1), seen(2)) == (["started", "progress"], ["progress"], [])
        assert [event.id for event in await store.load_events(BRIEFING_ID, 1)] == [2]

    async def test_while_the_store_is_away_they_have_to_ask_it(self, journal: BriefingJournal) -> None:
        away = Store(connect("redis://127.0.0.1:1"), ttl_s=600)
        lost = BriefingJournal(journal.briefing, away, "owner")
        lost.add_event("started")
        publishing = asyncio.create_task(lost.keep_published(lambda: None))
        async with asyncio.timeout(20):
            while lost.published_after(0) is not None:  # noqa: ASYNC110  # the publisher finds out
                await asyncio.sleep(0.01)
        publishing.cancel()
        await away.close()


class TestKeepPublished:
    async def test_changes_are_published_and_it_ends_with_the_briefing(
        self, journal: BriefingJournal, store: Store
    ) -> None:
        keeping = asyncio.create_task(journal.keep_published(lambda: None))
        journal.finish("failed", PartFailure(code="nothing-available", detail="None.", retryable=False))
        async with asyncio.timeout(10):
            await keeping
        assert await published(store) == ("failed", ["started", "failed"])

    async def test_a_store_that_came_back_empty_is_filled_again_under_the_same_ids(
        self, journal: BriefingJournal, store: Store, valkey: Redis
    ) -> None:
        await journal.publish()
        await valkey.flushall()
        keeping = asyncio.create_task(journal.keep_published(lambda: None))
        async with asyncio.timeout(10):
            while await store.load_briefing(BRIEFING_ID) is None:  # noqa: ASYNC110  # the journal makes it true
                await asyncio.sleep(0.02)
        assert await published(store) == ("running", ["started"])
        journal.finish("done")
        async with asyncio.timeout(10):
            await keeping
        assert [event.id for event in await store.load_events(BRIEFING_ID, 0)] == [1, 2]

    async def test_a_request_to_cancel_is_passed_on(self, journal: BriefingJournal, store: Store) -> None:
        cancelled = asyncio.Event()
        await journal.publish()
        keeping = asyncio.create_task(journal.keep_published(cancelled.set))
        await store.request_cancel(BRIEFING_ID)
        async with asyncio.timeout(10):
            await cancelled.wait()
        journal.finish("cancelled")
        async with asyncio.timeout(10):
            await keeping

    async def test_the_first_end_stands(self, journal: BriefingJournal, store: Store) -> None:
        journal.finish("cancelled")
        journal.finish("done")
        await journal.publish()
        assert await published(store) == ("cancelled", ["started", "cancelled"])


class TestProgress:
    async def test_it_is_logged_now_and_then_and_always_at_the_end(
        self, journal: BriefingJournal, store: Store
    ) -> None:
        told = journal.progress_of("triage")
        for done in range(1, 101):
            told(done, 100)
        await journal.publish()
        events = await store.load_events(BRIEFING_ID, 0)
        shown = [(event.done, event.total) for event in events if event.type == "progress"]
        # One at once, then one in a fifth of a second, and the last: a hundred in a moment are a few.
        assert shown[0] == (1, 100)
        assert shown[-1] == (100, 100)
        assert len(shown) < 10
