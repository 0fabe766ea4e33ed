"""Private folders for uploads: made for one request, gone after it."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def spool_folder(root: Path) -> Iterator[Path]:
    """A new private folder below ``root``, removed with all that was put there."""
    folder = root / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
