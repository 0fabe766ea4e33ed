"""Sessions in a real Valkey: kept while used, up to their age, never losing or resurrecting anything."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.briefings import briefing_without_parts
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.briefings import Briefing, BriefingEvent
from trauma_api.schemas.sessions import Answer, TurnRecord
from trauma_api.services.session_record import KeptTurn
from trauma_api.services.sessions import SessionNotFoundError, SessionService
from trauma_api.services.store import Store, connect
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StoredStudy

SESSION_ID = "5" * 32
HALF_HOUR_S, EIGHT_HOURS_S = 1800, 8 * 3600


def finished_briefing(briefing_id: str = "b" * 32) -> Briefing:
    """A briefing without parts, of now."""
    return briefing_without_parts(briefing_id, created_at=datetime.now(UTC))


def turn(number: int) -> KeptTurn:
    """A question and its answer."""
    shown = TurnRecord(answer_id=f"{number:032x}", question=f"Question {number}?", answer="Yes.", at=datetime.now(UTC))
    return KeptTurn(shown=shown, written="Yes.")


@pytest.fixture
def sessions(store: Store, studies: StudyService) -> SessionService:
    """Sessions as they are kept by default."""
    return SessionService(store, studies, ttl_s=HALF_HOUR_S, max_age_s=EIGHT_HOURS_S)


@pytest.fixture
async def valkey(valkey_socket: str) -> AsyncIterator[Redis]:
    """A look into the Valkey behind the store."""
    client = connect(None, unix_socket=valkey_socket)
    yield client
    await client.aclose()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until Valkey has done something."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  # Valkey makes it true
            await asyncio.sleep(0.02)


class TestLifetime:
    async def test_it_ends_half_an_hour_after_its_last_use(self, sessions: SessionService, valkey: Redis) -> None:
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        await valkey.expire(f"trauma:session:{SESSION_ID}", 5)
        session = await sessions.get(SESSION_ID)  # a use
        assert HALF_HOUR_S - 5 <= await valkey.ttl(f"trauma:session:{SESSION_ID}") <= HALF_HOUR_S
        assert session.expires_at - datetime.now(UTC) == pytest.approx(
            timedelta(seconds=HALF_HOUR_S), abs=timedelta(seconds=5)
        )

    async def test_a_session_that_is_looked_at_keeps_its_study(
        self, sessions: SessionService, study: StoredStudy, tmp_path: Path
    ) -> None:
        briefing = finished_briefing().model_copy(update={"study_id": study.record.study_id})
        await sessions.create(SESSION_ID, briefing, on_sample=False)
        folder = tmp_path / "studies" / "kept" / study.record.study_id
        os.utime(folder, (0, time.time() - 1700))  # it would be removed in 100 of its 1800 seconds
        await sessions.get(SESSION_ID)
        assert time.time() - folder.stat().st_mtime < 60

    async def test_an_expired_session_is_not_found(
        self, store: Store, studies: StudyService, sessions: SessionService
    ) -> None:
        short = SessionService(store, studies, ttl_s=1, max_age_s=EIGHT_HOURS_S)
        await short.create(SESSION_ID, finished_briefing(), on_sample=False)

        async def gone() -> bool:
            return await store.load_session(SESSION_ID) is None

        await until(gone)
        with pytest.raises(SessionNotFoundError):
            await sessions.get(SESSION_ID)
        with pytest.raises(SessionNotFoundError):
            await sessions.delete(SESSION_ID)
        with pytest.raises(SessionNotFoundError):
            await sessions.add_turn(SESSION_ID, turn(1))
        assert await store.load_session(SESSION_ID) is None, "a turn must not bring it back"

    async def test_its_age_ends_it_however_often_it_is_used(
        self, store: Store, studies: StudyService, valkey: Redis
    ) -> None:
        sessions = SessionService(store, studies, ttl_s=HALF_HOUR_S, max_age_s=2)
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        created = (await sessions.get(SESSION_ID)).created_at
        assert (await sessions.get(SESSION_ID)).expires_at <= created + timedelta(seconds=2.1)

        async def use_it_for_ever() -> None:
            while True:
                await sessions.get(SESSION_ID)
                await asyncio.sleep(0.05)

        with pytest.raises(SessionNotFoundError):
            await asyncio.wait_for(use_it_for_ever(), 10)
        assert datetime.now(UTC) - created < timedelta(seconds=5)

    async def test_a_maximum_age_of_one_second_still_opens_a_session(self, store: Store, studies: StudyService) -> None:
        # Settings allow session_max_age_s=1.
        sessions = SessionService(store, studies, ttl_s=HALF_HOUR_S, max_age_s=1)
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)

    @pytest.mark.parametrize(
        ("age_s", "left_s"),
        [
            (0, 1800),
            (7 * 3600, 1800),
            (8 * 3600 - 600, 600),  # ten minutes before its eight hours are over
            (8 * 3600, 0),
            (9 * 3600, 0),
        ],
    )
    async def test_what_is_left_of_it(self, sessions: SessionService, store: Store, age_s: int, left_s: int) -> None:
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        record = await store.load_session(SESSION_ID)
        assert record is not None
        now = record.created_at + timedelta(seconds=age_s)
        assert record.remaining_s(now, ttl_s=HALF_HOUR_S, max_age_s=EIGHT_HOURS_S) == left_s


class TestGet:
    async def test_an_unknown_session_is_not_found(self, sessions: SessionService) -> None:
        with pytest.raises(SessionNotFoundError):
            await sessions.get(SESSION_ID)

    async def test_reading_at_the_same_time_never_loses_a_turn(self, sessions: SessionService) -> None:
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        stop = asyncio.Event()

        async def keep_reading() -> int:
            count = 0
            while not stop.is_set():
                await sessions.get(SESSION_ID)
                count += 1
            return count

        readers = [asyncio.create_task(keep_reading()) for _ in range(8)]
        for number in range(30):
            await sessions.add_turn(SESSION_ID, turn(number))
        stop.set()
        assert sum(await asyncio.gather(*readers)) > 30
        history = (await sessions.get(SESSION_ID)).history
        assert [item.question for item in history] == [f"Question {number}?" for number in range(30)]

    async def test_sample_is_the_last_session_on_the_sample_study(self, sessions: SessionService) -> None:
        with pytest.raises(SessionNotFoundError):
            await sessions.get("sample")
        for session_id, on_sample in (("1" * 32, True), ("2" * 32, True), ("3" * 32, False)):
            await sessions.create(session_id, finished_briefing(), on_sample=on_sample)
        assert (await sessions.get("sample")).session_id == "2" * 32


class TestDelete:
    async def test_a_deleted_session_is_gone(self, sessions: SessionService) -> None:
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        await sessions.delete(SESSION_ID)
        with pytest.raises(SessionNotFoundError):
            await sessions.get(SESSION_ID)
        with pytest.raises(SessionNotFoundError):
            await sessions.delete(SESSION_ID)

    async def test_a_turn_of_a_deleted_session_does_not_bring_it_back(self, sessions: SessionService) -> None:
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        await sessions.delete(SESSION_ID)
        with pytest.raises(SessionNotFoundError):
            await sessions.add_turn(SESSION_ID, turn(1))
        with pytest.raises(SessionNotFoundError):
            await sessions.get(SESSION_ID)

    async def test_nothing_of_it_stays_in_the_store(
        self, sessions: SessionService, store: Store, valkey: Redis
    ) -> None:
        # DELETE says "forget the session and its history now"; an answer holds the question and the text.
        await sessions.create(SESSION_ID, finished_briefing(), on_sample=False)
        await store.put_answer(
            Answer(
                answer_id="a" * 32,
                session_id=SESSION_ID,
                status="done",
                question="Is there bleeding?",
                text="Yes.",
                sentences=[],
                failure_code=None,
                created_at=datetime.now(UTC),
                finished_at=datetime.now(UTC),
                provenance=[],
                warnings=[],
                notice=RESEARCH_NOTICE,
            )
        )
        await sessions.delete(SESSION_ID)
        assert await valkey.keys(f"*{SESSION_ID}*") == []


class TestStore:
    async def test_a_session_is_claimed_by_one_answer_at_a_time(self, store: Store) -> None:
        assert await store.claim_session(SESSION_ID, "a" * 32)
        assert not await store.claim_session(SESSION_ID, "b" * 32)
        await store.release_session_claim(SESSION_ID, "b" * 32)  # not the owner: nothing happens
        assert not await store.claim_session(SESSION_ID, "b" * 32)
        await store.release_session_claim(SESSION_ID, "a" * 32)
        assert await store.claim_session(SESSION_ID, "b" * 32)

    async def test_everything_has_a_time_to_live(self, store: Store, sessions: SessionService, valkey: Redis) -> None:
        briefing = finished_briefing().model_copy(update={"status": "running"})
        event = BriefingEvent(
            id=1, type="queued", at=datetime.now(UTC), part=None, status=None, code=None, done=None, total=None
        )
        await store.ping()
        await store.put_briefing(briefing, [event], "owner")
        await store.request_cancel(briefing.briefing_id)
        await store.put_sample("briefing", briefing.briefing_id)
        await store.claim_session(SESSION_ID, "a" * 32)
        await sessions.create(SESSION_ID, briefing, on_sample=True)
        keys = await valkey.keys("*")
        assert len(keys) == 9
        assert [key for key in keys if await valkey.ttl(key) <= 0] == []

    async def test_events_are_written_once_however_often_they_are_published(self, store: Store) -> None:
        briefing = finished_briefing()
        events = [
            BriefingEvent(
                id=number, type="progress", at=datetime.now(UTC), part=None, status=None, code=None, done=1, total=2
            )
            for number in (1, 2, 3)
        ]
        for count in (1, 1, 3, 3):
            await store.put_briefing(briefing, events[:count], "owner")
        assert [event.id for event in await store.load_events(briefing.briefing_id, 0)] == [1, 2, 3]
        assert [event.id for event in await store.load_events(briefing.briefing_id, 2)] == [3]
        assert await store.load_events(briefing.briefing_id, 3) == []
