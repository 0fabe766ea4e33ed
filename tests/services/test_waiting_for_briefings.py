"""Whoever waits for a briefing hears of its end, and costs nothing while it runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.support.engines import ConstantTriage, small_engines
from tests.support.waiting import until
from trauma_api.container import Container, open_container
from trauma_api.engines.base import SlicePixels, TriageScores
from trauma_api.imaging.uploads import ReadStudy
from trauma_api.schemas.briefings import BriefingRequest
from trauma_api.services.briefings import POLL_S
from trauma_api.services.store import Store, connect
from trauma_api.services.study_storage import StudyStorage
from trauma_api.settings import Settings

WAITERS = 5


class HeldTriage(ConstantTriage):
    """Scores nothing before it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.release = threading.Event(), threading.Event()

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Wait, then score."""
        self.began.set()
        assert self.release.wait(30)
        return super().score(slices)


@pytest.fixture
def triage() -> HeldTriage:
    """Not yet released."""
    return HeldTriage()


@pytest.fixture
def study_id(read_phantom: ReadStudy, tmp_path: Path) -> str:
    """A study that the service keeps."""
    return StudyStorage(tmp_path / "data", ttl_s=600).save(read_phantom)


@pytest.fixture
async def container(store: Store, valkey_socket: str, triage: HeldTriage, tmp_path: Path) -> AsyncIterator[Container]:
    """A service on the test's store whose triage is held."""
    settings = Settings.model_validate({"redis_url": f"unix://{valkey_socket}", "data_dir": tmp_path / "data"})
    async with open_container(settings, small_engines(triage)) as container:
        yield container
        triage.release.set()


async def loads(valkey_socket: str) -> int:
    """How often the state of a briefing was read from the store since its statistics were reset."""
    client = connect(None, unix_socket=valkey_socket)
    statistics = await client.info("commandstats")
    await client.aclose()
    return int(statistics.get("cmdstat_getex", {"calls": 0})["calls"])


async def test_waiters_read_the_state_when_they_come_and_when_it_has_ended(
    container: Container, triage: HeldTriage, study_id: str, valkey_socket: str
) -> None:
    begun = await container.briefings.start(BriefingRequest(study_id=study_id))
    await until(triage.began.is_set)
    client = connect(None, unix_socket=valkey_socket)
    await client.config_resetstat()
    await client.aclose()

    waiting = [asyncio.create_task(container.briefings.wait(begun.briefing_id, 30)) for _ in range(WAITERS)]
    await asyncio.sleep(10 * POLL_S)
    assert not any(one.done() for one in waiting)
    assert await loads(valkey_socket) == WAITERS

    triage.release.set()
    ended = await asyncio.gather(*waiting)
    assert {one.status for one in ended} == {"done"}
    kept = await container.briefings.get(begun.briefing_id)
    assert all(one == kept for one in ended)


async def test_who_waits_for_less_than_the_briefing_hears_how_it_stands(
    container: Container, triage: HeldTriage, study_id: str
) -> None:
    begun = await container.briefings.start(BriefingRequest(study_id=study_id))
    await until(triage.began.is_set)
    loop = asyncio.get_running_loop()
    began = loop.time()
    standing = await container.briefings.wait(begun.briefing_id, 0.25)
    assert standing.status == "running"
    assert 0.2 < loop.time() - began < 5
