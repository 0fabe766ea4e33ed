"""The rows on the whole service: a briefing from request to end, and briefings and questions at the same time."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

import anyio.to_thread

import baseline
from baseline import BaselineProcess, Briefed, values_of
from compute_inputs import Inputs, cpu_settings, keep
from measuring import Row, Timed, medians
from trauma_api.container import Container, Engines, load_engines, open_container
from trauma_api.engines.base import Generation, GenerationRequest
from trauma_api.routers.examples import BRIEFING_REQUEST
from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.briefings import BriefingRequest
from trauma_api.schemas.sessions import QuestionRequest
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult

P = ParamSpec("P")
T = TypeVar("T")
Generate = Callable[[GenerationRequest, Callable[[str], None], Callable[[], bool]], Generation]

WAIT_S = 600.0
BRIEFINGS = 4
QUESTIONS = (
    "Is there active bleeding?",
    "Is the spleen injured?",
    "How much blood is there?",
    "And the liver?",
    "What is the risk level?",
) * 4


@dataclass(frozen=True)
class Finished:
    """What a briefing found, and how long it took by its own clock."""

    seconds: float
    session_id: str
    triage: TriageResult
    reading: AnalysisResult
    volume: VolumeResult


def request_on(study_id: str) -> BriefingRequest:
    """The request of the API's own example, on this study."""
    example = BriefingRequest.model_validate(BRIEFING_REQUEST["sample"]["value"])
    return example.model_copy(update={"study_id": study_id})


async def brief(container: Container, study_id: str) -> Finished:
    """Ask for a briefing and wait for its end. Raises RuntimeError where a part is missing."""
    begun = await container.briefings.start(request_on(study_id))
    ended = await container.briefings.wait(begun.briefing_id, WAIT_S)
    parts = ended.parts
    if not (
        ended.finished_at
        and (parts.triage and parts.triage.result)
        and (parts.analysis and parts.analysis.result)
        and (parts.volume and parts.volume.result)
        and (parts.session and parts.session.session_id)
    ):
        raise RuntimeError(f"the briefing is {ended.status} and lacks a part")
    return Finished(
        seconds=(ended.finished_at - ended.created_at).total_seconds(),
        session_id=parts.session.session_id,
        triage=parts.triage.result,
        reading=parts.analysis.result,
        volume=parts.volume.result,
    )


async def briefing_of_sample(inputs: Inputs, repeats: int) -> Row:
    """A briefing on the sample, from request to end. Each is by a service that was started anew, as it keeps much."""
    with inputs.root() as root, BaselineProcess() as process:
        study = keep(root, inputs.sample())[0]
        plain = partial(process.run, partial(baseline.brief, cpu_settings(), study, request_on(study.study_id)))
        service = partial(_brief_sample, inputs)
        expected, found = (await plain()).value, (await service()).value
        baseline_s, service_s = await medians(plain, service, repeats)
    return Row(
        name="briefing",
        what="briefing on the sample study, request to end, phantom profile",
        baseline_s=baseline_s,
        service_s=service_s,
        goal=2.5,
        agreement=_same_briefing(expected, found),
        agrees=True,
    )


async def _brief_sample(inputs: Inputs) -> Timed[Briefed]:
    """Brief another study first, as the first call of a model takes longer."""
    with inputs.root() as root:
        other, sample = await anyio.to_thread.run_sync(keep, root, inputs.denser_sample(1), inputs.sample())
        async with open_container(cpu_settings(root)) as container:
            await brief(container, other.study_id)
            began = time.perf_counter()
            found = await brief(container, sample.study_id)
            seconds = time.perf_counter() - began
    return Timed(
        seconds, Briefed(found.triage.selected_slices, values_of(found.reading.findings), found.volume.volume_ml)
    )


def _same_briefing(expected: Briefed, found: Briefed) -> str:
    shared = len(set(expected.selected_slices) & set(found.selected_slices))
    same = sum(expected.findings[name] == value for name, value in found.findings.items())
    return (
        f"{shared} of {len(expected.selected_slices)} slices read and {same} of {len(expected.findings)} findings the "
        f"same; {expected.volume_ml:.1f} and {found.volume_ml:.1f} mL"
    )


@dataclass
class Clocks:
    """How long each tile of triage or segmentation took; when each answer was begun, and when its first token came."""

    tiles_s: list[float] = field(default_factory=list)
    begun_at: list[float] = field(default_factory=list)
    first_tokens_at: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was noted."""
        for noted in (self.tiles_s, self.begun_at, self.first_tokens_at):
            noted.clear()


def _with_clocks(engines: Engines, clocks: Clocks) -> Engines:
    """The same engines, watched where the ports call them."""
    engines.triage.score = _timed(engines.triage.score, clocks.tiles_s)  # type: ignore[method-assign]
    engines.segmenter.probabilities = _timed(engines.segmenter.probabilities, clocks.tiles_s)  # type: ignore[method-assign]
    engines.reader.generate = _noted(engines.reader.generate, clocks)  # type: ignore[method-assign,assignment]
    return engines


def _timed(work: Callable[P, T], into_s: list[float]) -> Callable[P, T]:
    def timed(*args: P.args, **named: P.kwargs) -> T:
        began = time.perf_counter()
        result = work(*args, **named)
        into_s.append(time.perf_counter() - began)
        return result

    return timed


def _noted(generate: Generate, clocks: Clocks) -> Generate:
    def noted(request: GenerationRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]) -> Generation:
        # of all requests only the first of an answer names what questions share
        if not request.shared_text:
            return generate(request, on_text, cancelled)
        clocks.begun_at.append(time.perf_counter())
        said = False

        def note(text: str) -> None:
            nonlocal said
            if not said:
                said = True
                clocks.first_tokens_at.append(time.perf_counter())
            on_text(text)

        return generate(request, note, cancelled)

    return noted


@dataclass(frozen=True)
class Load:
    """What four briefings and twenty questions took, together or one after the other."""

    seconds: float
    first_token_s: list[float]
    """From asking to the first token, by question."""
    begun_s: list[float]
    """From asking to the beginning of the reader's work."""
    answers: list[str]
    longest_tile_s: float
    asked_meanwhile: int
    """Questions asked before the last briefing ended."""


async def four_briefings_and_twenty_questions(inputs: Inputs, repeats: int) -> Row:
    """Together, against the service's own time for one after the other.

    One person asks, each question when the one before is answered, so that it waits for briefings alone. Its wait is
    the time to its first token over what the same question of the same conversation takes when nothing else runs.
    """
    pairs = sorted([await _pair(inputs, together_first=repeat % 2 == 1) for repeat in range(repeats)], key=_ratio)
    # a machine's speed changes from pair to pair by more than is to be told, less so within a pair
    middle = pairs[(len(pairs) - 1) // 2]
    # a question may wait for a tile of the run that it is in, where cores are shared and tiles take longer than alone
    wait_s, tile_s = max(
        ((_wait_s(*pair), pair[1].longest_tile_s) for pair in pairs), key=lambda item: item[0] - item[1]
    )
    begun_s = max(seconds for _, together in pairs for seconds in together.begun_s)
    alone_s = statistics.median(alone.longest_tile_s for alone, _ in pairs)
    same = all(alone.answers == together.answers for alone, together in pairs)
    meanwhile = min(together.asked_meanwhile for _, together in pairs)
    return Row(
        name="together",
        what=f"{BRIEFINGS} briefings and {len(QUESTIONS)} questions: one after the other, and together",
        baseline_s=middle[0].seconds,
        service_s=middle[1].seconds,
        goal=1.0,
        agreement=f"pairs from {_ratio(pairs[0]):.2f} to {_ratio(pairs[-1]):.2f}; "
        f"longest wait {wait_s:.2f} s, a tile {tile_s:.2f} s in the same run and {alone_s:.2f} s alone; "
        f"{begun_s:.2f} s at most until the reader began; {meanwhile} of {len(QUESTIONS)} asked while briefings ran; "
        f"{'same' if same else 'other'} answers",
        agrees=same and wait_s <= tile_s,
    )


async def _pair(inputs: Inputs, *, together_first: bool) -> tuple[Load, Load]:
    """The load one after the other, and together. Taking turns at going first, neither gains by a machine's drift."""
    first = await _run_load(inputs, together=together_first)
    second = await _run_load(inputs, together=not together_first)
    return (second, first) if together_first else (first, second)


def _ratio(pair: tuple[Load, Load]) -> float:
    """How many times as fast together is."""
    return pair[0].seconds / pair[1].seconds


def _wait_s(alone: Load, together: Load) -> float:
    """The longest wait of a question, beyond its own work."""
    pairs = zip(alone.first_token_s, together.first_token_s, strict=True)
    return max(loaded_s - alone_s for alone_s, loaded_s in pairs)


async def _run_load(inputs: Inputs, *, together: bool) -> Load:
    uploads = [inputs.sample(), *(inputs.denser_sample(hu) for hu in range(1, BRIEFINGS + 1))]
    clocks = Clocks()
    with inputs.root() as root:
        asked_about, *places = await anyio.to_thread.run_sync(keep, root, *uploads)
        study_ids = [place.study_id for place in places]
        settings = cpu_settings(root)
        engines = _with_clocks(await anyio.to_thread.run_sync(load_engines, settings), clocks)
        async with open_container(settings, engines) as container:
            session_id = (await brief(container, asked_about.study_id)).session_id
            # reads the pictures and the facts, from which all further ones go on
            await _ask(container, session_id, QUESTIONS[0])
            clocks.clear()
            work = _all_at_once if together else _one_by_one
            return await work(container, study_ids, session_id, clocks)


async def _one_by_one(container: Container, study_ids: Sequence[str], session_id: str, clocks: Clocks) -> Load:
    # by their own clocks: who waits for an end hears of it a moment later
    briefed_s = sum([(await brief(container, study_id)).seconds for study_id in study_ids])
    began = time.perf_counter()
    asked_at, answers = await _ask_all(container, session_id)
    seconds = briefed_s + time.perf_counter() - began
    return _load(seconds, asked_at, answers, clocks, briefed_at=0.0)


async def _all_at_once(container: Container, study_ids: Sequence[str], session_id: str, clocks: Clocks) -> Load:
    async def brief_all() -> float:
        await asyncio.gather(*(brief(container, study_id) for study_id in study_ids))
        return time.perf_counter()

    began = time.perf_counter()
    briefed_at, (asked_at, answers) = await asyncio.gather(brief_all(), _ask_all(container, session_id))
    return _load(time.perf_counter() - began, asked_at, answers, clocks, briefed_at)


def _load(seconds: float, asked_at: Sequence[float], answers: list[str], clocks: Clocks, briefed_at: float) -> Load:
    return Load(
        seconds=seconds,
        first_token_s=[first - asked for asked, first in zip(asked_at, clocks.first_tokens_at, strict=True)],
        begun_s=[begun - asked for asked, begun in zip(asked_at, clocks.begun_at, strict=True)],
        answers=answers,
        longest_tile_s=max(clocks.tiles_s),
        asked_meanwhile=sum(asked < briefed_at for asked in asked_at),
    )


async def _ask_all(container: Container, session_id: str) -> tuple[list[float], list[str]]:
    """Ask all questions in turn. Returns when each was asked, and the answers."""
    asked_at, answers = [], []
    for question in QUESTIONS:
        asked_at.append(time.perf_counter())
        answers.append(await _ask(container, session_id, question))
    return asked_at, answers


async def _ask(container: Container, session_id: str, question: str) -> str:
    running = await container.questions.ask(session_id, QuestionRequest(question=question, on_disconnect="continue"))
    await running.ended.wait()
    if running.answer.status != "done":
        raise RuntimeError(f"a question {running.answer.status}")
    return running.answer.text
