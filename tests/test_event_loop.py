"""The guard that all tests run under: our code may not block the event loop."""

from pathlib import Path

import anyio.to_thread
import pytest
from blockbuster import BlockingError

from trauma_api.services.study_storage import StudyStorage


async def test_a_blocking_call_of_our_code_on_the_event_loop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        StudyStorage(tmp_path / "studies", ttl_s=60)


async def test_the_same_call_on_a_worker_thread_is_none(tmp_path: Path) -> None:
    storage = await anyio.to_thread.run_sync(lambda: StudyStorage(tmp_path / "studies", ttl_s=60))
    assert storage.spool_root.is_dir()
