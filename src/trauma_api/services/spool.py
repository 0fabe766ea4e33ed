"""Private folders for uploads: made for one request, gone after it."""

import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread


@asynccontextmanager
async def spool_folder(root: Path) -> AsyncIterator[Path]:
    """A new private folder below ``root``, removed with all that was put there."""
    folder = root / uuid.uuid4().hex
    await anyio.to_thread.run_sync(partial(folder.mkdir, mode=0o700))
    try:
        yield folder
    finally:
        # Also when the client left and the request is being cancelled.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
