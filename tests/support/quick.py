"""A real service whose engines answer at once: for everything that is not about the models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.engines import small_engines
from tests.support.service import RunningService, run_service
from trauma_api.container import Engines
from trauma_api.settings import Settings


@contextmanager
def quick_service(engines: Engines | None = None, **settings: Any) -> Iterator[tuple[RunningService, httpx.Client]]:
    """A running service with small engines, and a client of it."""
    with (
        run_service(Settings(**settings), engines or small_engines()) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        yield service, client


def spooled(service: RunningService) -> list[str]:
    """What lies in the spool."""
    return [item.name for item in service.container.studies.storage.spool_root.iterdir()]
