"""The whole evaluation of a folder: finds the studies, runs those without a kept result, reports on all."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio.to_thread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from trauma_api.container import Container, Engines, open_container
from trauma_api.evaluation.cases import Case, FolderError, FoundCases, phantom_cases
from trauma_api.evaluation.cohort import patients_of
from trauma_api.evaluation.figures import all_figures, answer_sections
from trauma_api.evaluation.plots import PlotsUnavailableError, write_plots
from trauma_api.evaluation.questions import TURNS, ask
from trauma_api.evaluation.report import Evaluation, Failure, write_json, write_markdown
from trauma_api.evaluation.results import (
    PARTS,
    AnswersResult,
    AskedQuestion,
    Part,
    StudyResult,
    load_result,
    save_result,
    study_key,
)
from trauma_api.evaluation.rsna import LABELS_CSV, rsna_cases
from trauma_api.evaluation.run import RanStudy, RunOptions, run_study, study_result
from trauma_api.schemas.models import ModelList
from trauma_api.settings import Settings

RESULTS_FILE = "results.json"
REPORT_FILE = "report.md"
STUDIES_FOLDER = "studies"
LONGEST_STUDY_S = 24 * 60 * 60
ANSWERS_FOLDER = "questions"
NEEDS_RESULTS = "needs-reading-and-volume"


@dataclass(frozen=True)
class Request:
    """What is evaluated, and where the results go. Raises ValueError for questions without what they are about."""

    folder: Path
    out: Path
    parts: frozenset[Part] = frozenset(PARTS)
    ablation: bool = True
    limit: int | None = None
    questions: int = 0

    def __post_init__(self) -> None:
        if self.questions and not {"triage", "reading", "volume"} <= self.parts:
            raise ValueError("--questions needs triage, reading and volume in --stages.")


def find_cases(folder: Path) -> FoundCases:
    """The studies with truth in a folder. Raises FolderError when there are none."""
    found = rsna_cases(folder) if (folder / LABELS_CSV).is_file() else phantom_cases(folder)
    if not found.cases and not found.broken:
        raise FolderError(
            f"The folder holds no study with truth: neither a truth.json beside images, nor {LABELS_CSV} of RSNA 2023."
        )
    return found


def evaluate(settings: Settings, request: Request, console: Console, engines: Engines | None = None) -> Evaluation:
    """Evaluate, write the results and print what matters. ``engines`` stands in for loading the checkpoints.

    Raises FolderError, and StartError when the service's parts cannot be started.
    """
    found = find_cases(request.folder).first(request.limit)
    # A folder of studies that a service may share is not ours to remove studies from; and no study may expire while
    # a slow machine works on it.
    private = settings.model_copy(update={"data_dir": None, "study_ttl_s": LONGEST_STUDY_S})
    return asyncio.run(_run(private, request, found, console, engines))


async def _run(
    settings: Settings, request: Request, found: FoundCases, console: Console, engines: Engines | None
) -> Evaluation:
    async with open_container(settings, engines) as container:
        runner = _Runner(container, request)
        with _progress(console) as progress:
            task = progress.add_task("", total=len(found.cases), stage="")
            shares = conversations_of(found.cases, request.questions)
            for case, conversations in zip(found.cases, shares, strict=True):
                await runner.run(case, conversations, partial(_show_stage, progress, task))
                progress.update(task, advance=1, stage="")
        models = container.models
    work = partial(_report, request, found, runner, models, console)
    return await anyio.to_thread.run_sync(work)


def conversations_of(cases: Sequence[Case], questions: int) -> list[int]:
    """How many conversations of three turns each study gets: as even as can be, the first ones get the rest."""
    conversations = -(-questions // TURNS)
    return [(conversations + len(cases) - 1 - place) // len(cases) for place in range(len(cases))]


class _Runner:
    """Runs what has no kept result, and collects all results."""

    def __init__(self, container: Container, request: Request) -> None:
        self._container = container
        self._options = RunOptions(request.parts, request.ablation)
        self._dependencies = _dependencies(container, request)
        self._studies_folder = request.out / STUDIES_FOLDER
        self._answers_folder = request.out / ANSWERS_FOLDER
        self.results: list[StudyResult] = []
        self.answers: list[AnswersResult] = []

    async def run(self, case: Case, conversations: int, on_stage: Callable[[str], None]) -> None:
        """Run one study, and hold so many conversations on it, unless the results are kept."""
        key, answers_key = self._keys(case, conversations)
        load = anyio.to_thread.run_sync
        result = await load(load_result, StudyResult, self._studies_folder, case.case_id, key)
        answers: AnswersResult | None = None
        if conversations:
            answers = await load(load_result, AnswersResult, self._answers_folder, case.case_id, answers_key)
        to_ask = conversations if answers is None else 0
        if result is None or to_ask:
            options = self._options if result is None else replace(self._options, ablation=False)
            async with run_study(self._container, case, options, on_stage) as ran:
                if result is None:
                    result = study_result(key, case, ran)
                    await anyio.to_thread.run_sync(save_result, self._studies_folder, result)
                if to_ask:
                    on_stage("questions")
                    answers = await self._ask(answers_key, case, to_ask, ran)
                    await anyio.to_thread.run_sync(save_result, self._answers_folder, answers)
        self.results.append(result)
        self.answers += [] if answers is None else [answers]

    def _keys(self, case: Case, conversations: int) -> tuple[str, str]:
        """Of the study's result, and of its answers, in which the reading of evenly spaced slices has no part."""
        about_answers = {**self._dependencies, "ablation": None, "conversations": conversations}
        return study_key(case, self._dependencies), study_key(case, about_answers)

    async def _ask(self, key: str, case: Case, conversations: int, ran: RanStudy) -> AnswersResult:
        asked: tuple[AskedQuestion, ...] | None = None
        if ran.stored is not None and ran.reading is not None and ran.volume is not None:
            about = (self._container, ran.stored, ran.reading, ran.volume)
            asked = tuple(await ask(*about, conversations=conversations, seed=case.case_id))
        return AnswersResult(key=key, case_id=case.case_id, patient_id=case.patient_id, asked=asked)


def _show_stage(progress: Progress, task: TaskID, stage: str) -> None:
    progress.update(task, stage=stage.replace("_", " "))


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("Studies"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}"),
        console=console,
    )


def _dependencies(container: Container, request: Request) -> dict[str, object]:
    """What a result depends on beside its study."""
    settings = container.settings
    return {
        "models": [model.model_dump() for model in container.models.models],
        "slice_budget": container.models.slice_budget,
        "triage_threshold": settings.triage_threshold,
        "triage_statements": dict(settings.triage_statements),
        "parts": sorted(request.parts),
        "ablation": request.ablation,
    }


def _report(request: Request, found: FoundCases, runner: _Runner, models: ModelList, console: Console) -> Evaluation:
    results = runner.results
    patients = patients_of(results)
    evaluation = Evaluation(
        folder_name=request.folder.resolve().name,
        made_at=datetime.now(UTC),
        models=models,
        parts=[part for part in PARTS if part in request.parts],
        studies=len(results),
        patients=len(patients),
        incomplete_organ=sum(result.incomplete_organ for result in results),
        failures=_failures(found, results, runner.answers),
        figures={**all_figures(patients), **answer_sections(runner.answers)},
    )
    request.out.mkdir(parents=True, exist_ok=True)
    try:
        evaluation = replace(evaluation, plots=write_plots(request.out, patients))
    except PlotsUnavailableError as error:
        console.print(str(error))
    write_json(request.out / RESULTS_FILE, evaluation)
    write_markdown(request.out / REPORT_FILE, evaluation)
    return evaluation


def _failures(found: FoundCases, results: Sequence[StudyResult], answers: Sequence[AnswersResult]) -> list[Failure]:
    failures = [Failure(case.case_id, "truth", case.code) for case in found.broken]
    for result in results:
        failures += [Failure(result.case_id, failure.stage, failure.code) for failure in result.failures]
    for item in answers:
        if item.asked is None:
            failures.append(Failure(item.case_id, "questions", NEEDS_RESULTS))
        else:
            codes = [question.failure_code for question in item.asked if question.failure_code is not None]
            failures += [Failure(item.case_id, "questions", code) for code in codes]
    return failures
