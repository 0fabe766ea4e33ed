"""One study through the services of the container, one stage after the other, each timed."""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from trauma_api.container import Container
from trauma_api.errors import TraumaAPIError
from trauma_api.evaluation.cases import Case
from trauma_api.evaluation.finished import finished_briefing
from trauma_api.evaluation.labels import LabelsMismatchError, blood_truth, dice, instance_numbers, volume_ml
from trauma_api.evaluation.report_check import made_up_vitals, report_outcome
from trauma_api.evaluation.results import (
    Part,
    ReadingOutcome,
    ReportOutcome,
    Stage,
    StageFailure,
    StudyResult,
    TriageOutcome,
    VolumeOutcome,
)
from trauma_api.imaging.measure import blood_mask
from trauma_api.imaging.uploads import Stated, UploadedFile
from trauma_api.imaging.volume import CTVolume
from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.triage import SliceScore, TriageResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.study_storage import StoredStudy

T = TypeVar("T")

NEEDS_TRIAGE = "needs-triage"
FIELDS = ("liver", "spleen", "kidneys", "bowel_and_mesentery", "active_extravasation", "hemoperitoneum")
"""The fields of the form whose truth may be known."""


@dataclass(frozen=True)
class RunOptions:
    """Which parts are run, and whether the reading is also run on evenly spaced slices."""

    parts: frozenset[Part]
    ablation: bool


@dataclass
class RanStudy:
    """A study while it is run, and what it gave so far."""

    stored: StoredStudy | None = None
    triage: TriageResult | None = None
    reading: AnalysisResult | None = None
    reading_alone: AnalysisResult | None = None
    volume: VolumeResult | None = None
    volume_outcome: VolumeOutcome | None = None
    report_outcome: ReportOutcome | None = None
    slice_truth: tuple[bool | None, ...] | None = None
    failures: list[StageFailure] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def run_study(
    container: Container, case: Case, options: RunOptions, on_stage: Callable[[Stage], None]
) -> AsyncIterator[RanStudy]:
    """Ingest a study and run the parts on it. It is removed when the context is left. Failures are kept, not raised."""
    ran = RanStudy()
    on_stage("ingest")
    ran.stored = await _timed(ran, "ingest", _ingest(container, case))
    if ran.stored is None:
        yield ran
        return
    try:
        await _run_parts(container, case, options, ran, ran.stored, on_stage)
        yield ran
    finally:
        await container.studies.delete(ran.stored.record.study_id)


async def _run_parts(
    container: Container,
    case: Case,
    options: RunOptions,
    ran: RanStudy,
    stored: StoredStudy,
    on_stage: Callable[[Stage], None],
) -> None:
    try:
        ran.slice_truth = await anyio.to_thread.run_sync(_slice_truth, case, stored.stack.slice_count)
    except TraumaAPIError as error:
        ran.failures.append(StageFailure(stage="truth", code=error.code))
    if "triage" in options.parts:
        on_stage("triage")
        ran.triage = await _timed(ran, "triage", container.triage.run(stored))
    if "reading" in options.parts:
        on_stage("reading")
        await _read(container, ran, stored, ablation=options.ablation)
    if "volume" in options.parts:
        on_stage("volume")
        ran.volume = await _timed(ran, "volume", container.volume.run(stored))
        if ran.volume is not None:
            await _compare(container, case, ran, stored, ran.volume)
    if "report" in options.parts and (ran.reading is not None or ran.volume is not None):
        on_stage("report")
        await _report(container, case, ran, stored)


async def _report(container: Container, case: Case, ran: RanStudy, stored: StoredStudy) -> None:
    findings, slices = (None, []) if ran.reading is None else (ran.reading.findings, ran.reading.slice_indices)
    vitals = made_up_vitals(case.case_id)
    report = await _timed(ran, "report", container.report.run(stored, findings, ran.volume, vitals, None, slices))
    if report is not None:
        briefing = finished_briefing(stored, ran.reading, ran.volume, report)
        ran.report_outcome = await anyio.to_thread.run_sync(report_outcome, briefing, report)


async def _read(container: Container, ran: RanStudy, stored: StoredStudy, *, ablation: bool) -> None:
    if ran.triage is None:
        ran.failures.append(StageFailure(stage="reading", code=NEEDS_TRIAGE))
    else:
        ran.reading = await _timed(ran, "reading", container.analysis.run(stored, ran.triage.selected_slices))
    if ablation:
        even = evenly_spaced(stored.stack.slice_count, container.triage.slice_budget)
        ran.reading_alone = await _timed(ran, "reading_alone", container.analysis.run(stored, even))


def evenly_spaced(slice_count: int, budget: int) -> list[int]:
    """The middle slices of ``budget`` equal parts of a stack; all of a shorter one."""
    wanted = min(budget, slice_count)
    return [int((2 * part + 1) * slice_count / (2 * wanted)) for part in range(wanted)]


async def _ingest(container: Container, case: Case) -> StoredStudy:
    make = partial(tempfile.TemporaryDirectory, dir=container.studies.storage.spool_root)
    folder = await anyio.to_thread.run_sync(make)
    try:
        files = [UploadedFile(position, path) for position, path in enumerate(case.images)]
        study = await container.studies.ingest(files, Path(folder.name), Stated())
    finally:
        await anyio.to_thread.run_sync(folder.cleanup)
    return await container.studies.open(study.study_id)


async def _timed(ran: RanStudy, stage: Stage, work: Awaitable[T]) -> T | None:
    began = time.monotonic()
    try:
        result = await work
    except TraumaAPIError as error:
        ran.failures.append(StageFailure(stage=stage, code=error.code))
        return None
    ran.durations_s[stage] = round(time.monotonic() - began, 3)
    return result


async def _compare(container: Container, case: Case, ran: RanStudy, stored: StoredStudy, result: VolumeResult) -> None:
    try:
        overlap, masked_ml = await anyio.to_thread.run_sync(_overlap, container, case, stored)
    except TraumaAPIError as error:
        ran.failures.append(StageFailure(stage="truth", code=error.code))
        return
    known_ml = case.truth.total_ml
    ran.volume_outcome = VolumeOutcome(
        measured_ml=result.volume_ml,
        truth_ml=masked_ml if known_ml is None else known_ml,
        dice=overlap,
        threshold=result.threshold,
    )


def _overlap(container: Container, case: Case, stored: StoredStudy) -> tuple[float | None, float | None]:
    """Dice and true millilitres by the label volume; both None without one."""
    if case.labels is None:
        return None, None
    mask = container.studies.storage.open_mask(stored.record.study_id)
    if mask is None or not isinstance(stored.stack, CTVolume):
        raise LabelsMismatchError
    truth: NDArray[np.bool_] = blood_truth(case.labels, stored.stack)
    found = blood_mask(mask.probability_zyx, mask.record.threshold)
    return dice(truth, found), volume_ml(truth, stored.stack)


def _slice_truth(case: Case, slice_count: int) -> tuple[bool | None, ...] | None:
    """What is known of each slice, head to feet; None where nothing is known of it. Raises LabelsMismatchError."""
    known = case.truth.slices
    if known is not None:
        if len(known) != slice_count:
            raise LabelsMismatchError
        return known
    if not case.truth.any_injury:
        return (False,) * slice_count
    if not case.labelled_instances:
        return None
    numbers = instance_numbers(case.images)
    if len(numbers) != slice_count:
        return None
    return tuple(True if number in case.labelled_instances else None for number in numbers)


def study_result(key: str, case: Case, ran: RanStudy) -> StudyResult:
    """What is kept of a study that was run."""
    return StudyResult(
        key=key,
        case_id=case.case_id,
        patient_id=case.patient_id,
        truth=case.truth,
        incomplete_organ=case.incomplete_organ,
        slice_truth=ran.slice_truth,
        triage=None if ran.triage is None else _triage_outcome(ran.triage),
        reading=None if ran.reading is None else _reading_outcome(ran.reading),
        reading_alone=None if ran.reading_alone is None else _reading_outcome(ran.reading_alone),
        volume=ran.volume_outcome,
        report=ran.report_outcome,
        failures=tuple(ran.failures),
        durations_s=ran.durations_s,
    )


def _triage_outcome(result: TriageResult) -> TriageOutcome:
    return TriageOutcome(
        suspicion=tuple(item.suspicion for item in result.slices),
        hemorrhage_margin=tuple(_margin(item) for item in result.slices if item.scored),
        threshold=result.threshold,
        selected_slices=tuple(result.selected_slices),
    )


def _margin(item: SliceScore) -> float:
    logits = {score.candidate: score.logit for score in item.candidates}
    return round(logits["active_hemorrhage"] - logits["normal_abdomen"], 4)


def _reading_outcome(result: AnalysisResult) -> ReadingOutcome:
    return ReadingOutcome(
        slices=tuple(result.slice_indices),
        probabilities={name: getattr(result.findings, name).probabilities for name in FIELDS},
    )
