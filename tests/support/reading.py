"""Reads files as an upload is read, through a sandbox that all tests share."""

import atexit
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.uploads import ReadLimits, ReadStudy, Stated, UploadedFile, read_upload

SMALL_IMAGES = ReadLimits(min_side=1)


@cache
def shared_sandbox() -> Sandbox:
    """Two children at most; started by the first job, stopped with the interpreter."""
    sandbox = Sandbox(2)
    atexit.register(sandbox.close)
    return sandbox


def read_files(
    paths: Sequence[Path],
    folder: Path,
    *,
    limits: ReadLimits = SMALL_IMAGES,
    spacing_zyx_mm: tuple[float, float, float] | None = None,
    window_hu: tuple[float, float] | None = None,
    series: str | None = None,
) -> ReadStudy:
    """Read the files as one upload, in the order given, in a new folder below ``folder``."""
    own = folder / f"upload-{uuid.uuid4().hex}"
    own.mkdir(parents=True)
    files = [UploadedFile(position, path) for position, path in enumerate(paths)]
    return read_upload(files, own, shared_sandbox(), Stated(spacing_zyx_mm, window_hu, series), limits)


def with_own_file(read: ReadStudy, folder: Path) -> ReadStudy:
    """The same study over a copy of its file, because keeping a study moves its file away."""
    copy = folder / f"stack-{uuid.uuid4().hex}.raw"
    shutil.copyfile(read.stack_path, copy)
    return replace(read, stack_path=copy)
