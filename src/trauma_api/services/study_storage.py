"""The one class that keeps studies: a folder a study, removed when its time since last use is over.

    {root}/{study_id}/study.json        StudyRecord
    {root}/{study_id}/stack.raw         voxels or pixels, read through a memory map
    {root}/{study_id}/probability.raw   hemorrhage probability, uint8, once segmented
    {root}/{study_id}/mask.json         threshold of the last volume result

The folder's modification time is the time of last use. All methods block; services call them on a worker thread.
"""

import contextlib
import math
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import NotFoundError
from trauma_api.imaging.study import Eligibility as Found
from trauma_api.imaging.uploads import ReadStudy, SeriesSummary, StudyWarning
from trauma_api.imaging.volume import CTVolume, ImageStack, PictureStack
from trauma_api.schemas.base import Caveat, Schema
from trauma_api.schemas.studies import Coverage, Eligibility, SeriesInfo
from trauma_api.services.spool import full_disk_translated


class StudyNotFoundError(NotFoundError):
    """No study under this id, or its time is over."""

    code = "study-not-found"
    title = "Study not found"
    public_message = "No study is kept under this id; studies are removed 30 minutes after last use. Upload it again."


class StudyRecord(Schema):
    """What is known of a study, apart from its pixels."""

    study_id: str
    source: Literal["dicom", "nifti", "pictures"]
    series: list[SeriesInfo]
    warnings: list[Caveat]
    eligibility: Eligibility
    stack_shape: list[int]
    stack_dtype: Literal["<i2", "<f4", "|u1"]
    affine_lps: list[list[float]] | None
    slice_thickness_mm: list[float] | None
    stated_spacing_zyx_mm: list[float] | None
    window_hu: list[float] | None


class MaskRecord(Schema):
    """What the kept mask was made with, and the millilitres that were taken out of it as noise."""

    checkpoint_sha256: str
    threshold: float
    left_out_ml: float


@dataclass(frozen=True)
class StoredStudy:
    """An open study. The stack is memory-mapped: it stays readable after the study was removed."""

    record: StudyRecord
    stack: ImageStack
    expires_at: datetime


@dataclass(frozen=True)
class StoredMask:
    """A kept probability map, uint8 (slices, rows, columns), and what it was made with."""

    record: MaskRecord
    probability_zyx: NDArray[np.uint8]


class StudyStorage:
    """Studies on disk below ``root``."""

    def __init__(self, root: Path, *, ttl_s: int) -> None:
        self._ttl_s = ttl_s
        self.spool_root = root / "spool"
        self._kept = root / "kept"
        for folder in (self.spool_root, self._kept):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, study: ReadStudy) -> str:
        """Keep a study, whose file of voxels is moved away; the same content is kept once. Returns its id."""
        study_id = study.digest[:32]
        folder = self._kept / study_id
        if not folder.exists():
            # Written beside and renamed, so that nobody ever opens half a study.
            partial = self.spool_root / f"saving-{uuid.uuid4().hex}"
            partial.mkdir(mode=0o700)
            try:
                _write(partial, study_id, study)
                _rename_unless_there(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # deleted by another request meanwhile
            os.utime(folder)
        return study_id

    def open(self, study_id: str) -> StoredStudy:
        """Open a study, which counts as a use. Raises StudyNotFoundError."""
        folder = self._folder(study_id)
        try:
            record = StudyRecord.model_validate_json((folder / "study.json").read_text(encoding="utf-8"))
            array = np.memmap(folder / "stack.raw", record.stack_dtype, "r", shape=tuple(record.stack_shape))
            os.utime(folder)
        except FileNotFoundError as error:
            raise StudyNotFoundError from error
        expires_at = datetime.fromtimestamp(time.time() + self._ttl_s, UTC)
        return StoredStudy(record, _stack(record, array), expires_at)

    def delete(self, study_id: str) -> None:
        """Remove a study and all that was made of it on disk. Raises StudyNotFoundError."""
        folder = self._folder(study_id)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError as error:
            raise StudyNotFoundError from error

    def save_mask(self, study_id: str, record: MaskRecord, probability_zyx: NDArray[np.uint8]) -> None:
        """Keep a study's probability map. Raises StudyNotFoundError, InsufficientStorageError."""
        folder = self._folder(study_id)
        temporary = folder / f"probability-{uuid.uuid4().hex}.tmp"
        try:
            with full_disk_translated():
                probability_zyx.tofile(temporary)
            temporary.rename(folder / "probability.raw")
            self.save_mask_record(study_id, record)
        except FileNotFoundError as error:
            raise StudyNotFoundError from error

    def save_mask_record(self, study_id: str, record: MaskRecord) -> None:
        """Keep what the mask is shown with."""
        folder = self._folder(study_id)
        temporary = folder / f"mask-{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_text(record.model_dump_json(), encoding="utf-8")
            temporary.rename(folder / "mask.json")
        except FileNotFoundError as error:
            raise StudyNotFoundError from error

    def open_mask(self, study_id: str) -> StoredMask | None:
        """The kept probability map, or None when there is none."""
        folder = self._folder(study_id)
        try:
            record = MaskRecord.model_validate_json((folder / "mask.json").read_text(encoding="utf-8"))
            study = StudyRecord.model_validate_json((folder / "study.json").read_text(encoding="utf-8"))
            shape = tuple(study.stack_shape[:3])
            return StoredMask(record, np.memmap(folder / "probability.raw", np.uint8, "r", shape=shape))
        except FileNotFoundError:
            return None

    def remove_expired(self) -> int:
        """Remove studies whose time is over, and spooled uploads that nobody finished. Returns how many."""
        limit = time.time() - self._ttl_s
        kept = [folder for folder in self._kept.iterdir() if _mtime(folder) < limit]
        # An upload that is still arriving changes a file in its folder, not the folder.
        spooled = [
            folder
            for folder in self.spool_root.iterdir()
            if max(_mtime(folder), *(_mtime(file) for file in folder.glob("*"))) < limit
        ]
        for folder in (*kept, *spooled):
            shutil.rmtree(folder, ignore_errors=True)
        return len(kept) + len(spooled)

    def _folder(self, study_id: str) -> Path:
        folder = self._kept / study_id
        try:
            expired = folder.stat().st_mtime < time.time() - self._ttl_s
        except FileNotFoundError as error:
            raise StudyNotFoundError from error
        if expired:
            raise StudyNotFoundError
        return folder


def _rename_unless_there(source: Path, target: Path) -> None:
    """Another request may have kept the same content meanwhile, which is as good; any other failure is raised."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise


def _mtime(path: Path) -> float:
    """Time of last change; infinitely late for what is gone, as requests remove their own folders meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _write(folder: Path, study_id: str, study: ReadStudy) -> None:
    # Plain bytes, with shape and type in the record: NumPy's own format is parsed as Python source, which CPython 3.11
    # does not do safely on several threads at once (SystemError from ast.parse).
    study.stack_path.rename(folder / "stack.raw")
    (folder / "study.json").write_text(_record(study_id, study).model_dump_json(), encoding="utf-8")


def _record(study_id: str, study: ReadStudy) -> StudyRecord:
    stack = study.stack
    array = stack.voxels_zyx_hu if isinstance(stack, CTVolume) else stack.pixels_zyxc
    return StudyRecord(
        study_id=study_id,
        source=study.source,
        series=[_series_info(series) for series in study.series],
        warnings=[_caveat(warning) for warning in (*study.warnings, *study.eligibility.warnings)],
        eligibility=_eligibility(study.eligibility),
        stack_shape=list(array.shape),
        stack_dtype=array.dtype.str,
        **_space(stack),
    )


class _Space(TypedDict):
    """Where voxels lie, as it is kept."""

    affine_lps: list[list[float]] | None
    slice_thickness_mm: list[float] | None
    stated_spacing_zyx_mm: list[float] | None
    window_hu: list[float] | None


def _space(stack: ImageStack) -> _Space:
    affine, thickness, spacing, window = None, None, None, None
    if isinstance(stack, CTVolume):
        affine, thickness = stack.affine_lps, stack.slice_thickness_mm
    else:
        spacing, window = stack.stated_spacing_zyx_mm, stack.window_hu
    return {
        "affine_lps": None if affine is None else affine.tolist(),
        "slice_thickness_mm": None if thickness is None else list(thickness),
        "stated_spacing_zyx_mm": None if spacing is None else list(spacing),
        "window_hu": None if window is None else list(window),
    }


def _caveat(warning: StudyWarning) -> Caveat:
    return Caveat(code=warning.code, detail=warning.detail)


def _eligibility(found: Found) -> Eligibility:
    coverage = found.coverage
    first, last = (None, None) if coverage is None or coverage.abdomen_slices is None else coverage.abdomen_slices
    return Eligibility(
        status=found.status,
        reasons=[_caveat(reason) for reason in found.reasons],
        coverage=None
        if coverage is None
        else Coverage(
            first_abdomen_slice=first,
            last_abdomen_slice=last,
            abdomen_extent_mm=coverage.abdomen_extent_mm,
            top_included=coverage.top_included,
            bottom_included=coverage.bottom_included,
        ),
    )


def _series_info(series: SeriesSummary) -> SeriesInfo:
    return SeriesInfo(
        series_id=series.series_id,
        series_uid=series.series_uid,
        modality=series.modality,
        slice_count=series.slice_count,
        rows=series.rows,
        columns=series.columns,
        spacing_zyx_mm=None if series.spacing_zyx_mm is None else list(series.spacing_zyx_mm),
        orientation=series.orientation,
        phase=series.phase,
        lossy=series.lossy,
        transfer_syntax_uid=series.transfer_syntax_uid,
        selected=series.selected,
        reason=series.reason,
        score=series.score,
        score_reasons=list(series.score_reasons),
    )


def _stack(record: StudyRecord, array: NDArray[np.generic]) -> ImageStack:
    if record.source != "pictures":
        affine = None if record.affine_lps is None else np.asarray(record.affine_lps, dtype=np.float64)
        thickness = None if record.slice_thickness_mm is None else tuple(record.slice_thickness_mm)
        return CTVolume(array, affine, thickness)  # type: ignore[arg-type]  # the dtype is the one that was saved
    spacing, window = record.stated_spacing_zyx_mm, record.window_hu
    return PictureStack(
        array,  # type: ignore[arg-type]
        None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        None if window is None else (window[0], window[1]),
    )
