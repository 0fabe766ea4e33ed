"""Studies: uploads become kept studies; kept studies are described, shown and removed."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from trauma_api.errors import InputError, UnavailableError
from trauma_api.imaging.measure import blood_mask
from trauma_api.imaging.render import slice_png
from trauma_api.imaging.sandbox.client import Sandbox, SandboxError
from trauma_api.imaging.uploads import ReadLimits, Stated, UploadedFile, read_upload
from trauma_api.phantom.sample import write_sample_study
from trauma_api.schemas.base import RESEARCH_NOTICE, SAMPLE_ID
from trauma_api.schemas.studies import Study
from trauma_api.services.spool import full_disk_translated
from trauma_api.services.study_storage import StoredStudy, StudyNotFoundError, StudyStorage

T = TypeVar("T")


class ReadingUnavailableError(UnavailableError):
    """The processes that read uploads do not start or do not answer."""

    code = "reading-unavailable"
    title = "Uploads cannot be read now"
    public_message = "The part that reads uploads does not answer. Try again shortly."


class SliceOutOfRangeError(InputError):
    """The study has no slice with this index."""

    code = "slice-out-of-range"
    title = "No such slice"
    public_message = "The study has no slice with this index; its slices count from 0 to slice_count - 1."


class NoMaskError(InputError):
    """The overlay was asked for before there is a mask."""

    code = "no-mask"
    title = "No mask yet"
    public_message = "This study has no mask yet. Run POST /v1/volume or a briefing first, or leave overlay out."


class StudyService:
    """Keeps studies, and knows the built-in sample."""

    def __init__(self, storage: StudyStorage, sandbox: Sandbox, limits: ReadLimits) -> None:
        self._storage = storage
        self._sandbox = sandbox
        self._reading = anyio.CapacityLimiter(sandbox.children)
        self._limits = limits
        self._opening_sample = anyio.Lock()
        self._sample_study_id: str | None = None

    @property
    def storage(self) -> StudyStorage:
        """Where studies are kept."""
        return self._storage

    async def ingest(self, files: Sequence[UploadedFile], folder: Path, stated: Stated) -> Study:
        """Read an upload in bounded processes, unpacking in its private folder, and keep it.

        Raises InputError when it is not usable, InsufficientStorageError, ReadingUnavailableError.
        """
        # Of many uploads the later ones wait here: without a thread, and before the clock of their limit starts.
        read = partial(self._read_and_keep, files, folder, stated)
        study_id = await anyio.to_thread.run_sync(read, limiter=self._reading)
        return await self.describe(study_id)

    def _read_and_keep(self, files: Sequence[UploadedFile], folder: Path, stated: Stated) -> str:
        try:
            with full_disk_translated():
                return self._storage.save(read_upload(files, folder, self._sandbox, stated, self._limits))
        except SandboxError as error:
            raise ReadingUnavailableError from error

    async def open(self, study_id: str) -> StoredStudy:
        """Open a study for work. Raises StudyNotFoundError."""
        if study_id == SAMPLE_ID:
            # One draws it; the others wait without a thread.
            async with self._opening_sample:
                return await _in_thread(self._open_sample)
        return await _in_thread(partial(self._storage.open, study_id))

    async def describe(self, study_id: str) -> Study:
        """A study as clients see it."""
        return describe(await self.open(study_id))

    async def delete(self, study_id: str) -> None:
        """Remove a study and its mask."""
        study = await self.open(study_id)
        await _in_thread(partial(self._storage.delete, study.record.study_id))

    def is_sample(self, study_id: str) -> bool:
        """Whether this is the built-in sample study."""
        return study_id in (SAMPLE_ID, self._sample_study_id)

    async def picture(
        self, study_id: str, slice_index: int, window: str, *, overlay: bool, trunk_only: bool = False
    ) -> bytes:
        """PNG of one slice, with the mask drawn in when ``overlay``."""
        study = await self.open(study_id)
        if slice_index >= study.stack.slice_count:
            raise SliceOutOfRangeError
        return await _in_thread(partial(self._draw, study, slice_index, window, overlay=overlay, trunk_only=trunk_only))

    def _draw(self, study: StoredStudy, slice_index: int, window: str, *, overlay: bool, trunk_only: bool) -> bytes:
        if not overlay:
            return slice_png(study.stack, slice_index, window, None, trunk_only=trunk_only)
        mask = self._storage.open_mask(study.record.study_id)
        if mask is None:
            raise NoMaskError
        blood = blood_mask(mask.probability_zyx[slice_index], mask.record.threshold)
        return slice_png(study.stack, slice_index, window, blood, trunk_only=trunk_only)

    def _open_sample(self) -> StoredStudy:
        if self._sample_study_id is not None:
            try:
                return self._storage.open(self._sample_study_id)
            except StudyNotFoundError:
                pass  # its time was over: drawn anew below
        with tempfile.TemporaryDirectory(dir=self._storage.spool_root) as folder:
            self._sample_study_id = self._read_and_keep(_write_sample(Path(folder)), Path(folder), Stated())
        return self._storage.open(self._sample_study_id)


def _write_sample(folder: Path) -> list[UploadedFile]:
    write_sample_study(folder)
    return [UploadedFile(position, path) for position, path in enumerate(sorted(folder.iterdir()))]


def describe(study: StoredStudy) -> Study:
    """A study as clients see it."""
    record, stack = study.record, study.stack
    spacing = stack.spacing_zyx_mm
    return Study(
        study_id=record.study_id,
        source=record.source,
        slice_count=stack.slice_count,
        rows=stack.shape_yx[0],
        columns=stack.shape_yx[1],
        spacing_zyx_mm=None if spacing is None else [round(value, 6) for value in spacing],
        slice_order="as_sent" if record.source == "pictures" else "head_to_feet",
        slice_thickness_mm=record.slice_thickness_mm,
        series=record.series,
        eligibility=record.eligibility,
        warnings=record.warnings,
        expires_at=study.expires_at,
        slice_url=f"/v1/studies/{record.study_id}/slices/{{slice_index}}.png",
        notice=RESEARCH_NOTICE,
    )


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
