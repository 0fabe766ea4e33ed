"""Questions: one at a time per session, answered as a stream, kept as a resource."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from trauma_api.engines.base import GenerationRequest
from trauma_api.errors import ConflictError, NotFoundError, StoreUnavailableError, TraumaAPIError
from trauma_api.log import get_logger
from trauma_api.schemas.base import SAMPLE_ID, Caveat
from trauma_api.schemas.sessions import (
    Answer,
    AnswerStatus,
    DoneEvent,
    ErrorEvent,
    QuestionRequest,
    TurnRecord,
)
from trauma_api.services.briefings import ServiceStoppingError
from trauma_api.services.checked_prose import ProseCheck
from trauma_api.services.facts import Facts, collect_facts
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import GenerationPort
from trauma_api.services.prompts import answer_opening, answer_turns
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.retry import while_store_is_away
from trauma_api.services.running_answer import RunningAnswer
from trauma_api.services.session_record import KeptTurn, SessionRecord
from trauma_api.services.sessions import SessionNotFoundError, SessionService
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StoredStudy
from trauma_api.services.topics import topics_asked

if TYPE_CHECKING:
    from trauma_api.services.store import Store

HISTORY_BYTES = 4000
"""Of the last turns that go into the prompt; older ones stay in the session only. No token is shorter than a byte."""

CLAIM_RENEWAL_S = 5.0
STORE_PATIENCE_S = 10.0

logger = get_logger()


class SessionBusyError(ConflictError):
    """Another question of the session is being answered."""

    code = "session-busy"
    title = "Session busy"
    public_message = "This session is answering another question. Wait for its end, then ask again."


class AnswerNotFoundError(NotFoundError):
    """No answer under this id, or its time is over."""

    code = "answer-not-found"
    title = "Answer not found"
    public_message = "No answer is kept under this id in this session, or its time is over."


class AnswerStoppedError(ConflictError):
    """The client left, or stopped the answer."""

    code = "answer-stopped"
    title = "Answer stopped"
    public_message = "The answer was stopped before its end because its client left. Ask again."


class QuestionService:
    """Takes questions, and keeps answers."""

    def __init__(
        self,
        *,
        port: GenerationPort,
        sessions: SessionService,
        studies: StudyService,
        store: "Store",
        gate: ComputeGate,
        answer_max_tokens: int,
        draining: asyncio.Event,
    ) -> None:
        self._port = port
        self._sessions = sessions
        self._studies = studies
        self._store = store
        self._gate = gate
        self._answer_max_tokens = answer_max_tokens
        self._draining = draining
        self._running: dict[asyncio.Task[None], RunningAnswer] = {}

    async def ask(self, session_id: str, request: QuestionRequest) -> RunningAnswer:
        """Take a question and start answering it.

        Raises SessionNotFoundError, StudyNotFoundError, SessionBusyError, GateBusyError, StoreUnavailableError.
        """
        if self._draining.is_set():
            raise ServiceStoppingError
        record = await self._sessions.load(session_id)
        study = await self._studies.open(record.briefing.study_id)
        facts = _facts(record, study)
        checks = ProseCheck(facts, _slices(record), topics_asked(request.question))
        running = RunningAnswer(
            record.session_id, request.question, checks, stop_when_left=request.on_disconnect == "stop"
        )
        with ExitStack() as held:
            held.enter_context(self._gate.admission())
            if not await self._store.claim_session(record.session_id, running.answer.answer_id):
                raise SessionBusyError
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self._release_claim, running)
                await self._store.put_answer(running.answer)
                undo.pop_all()
            task = asyncio.create_task(self._write(running, record, study, facts, held.pop_all()))
        running.attach(task)
        self._running[task] = running
        task.add_done_callback(self._forget)
        await asyncio.sleep(0)  # the task must have begun, or a cancellation would never reach its cleanup
        return running

    async def get(self, session_id: str, answer_id: str) -> Answer:
        """An answer as it stands. Raises AnswerNotFoundError."""
        record = await self._sessions.load(session_id)
        for running in self._running.values():
            if running.answer.answer_id == answer_id and running.answer.session_id == record.session_id:
                return running.answer.model_copy(update={"text": running.text, "sentences": running.sentences})
        if answer_id == SAMPLE_ID and record.turns:
            answer_id = record.turns[-1].shown.answer_id
        answer = await self._store.load_answer(record.session_id, answer_id)
        if answer is None:
            raise AnswerNotFoundError
        return answer

    async def _write(
        self, running: RunningAnswer, record: SessionRecord, study: StoredStudy, facts: Facts, held: ExitStack
    ) -> None:
        renewal = asyncio.create_task(self._keep_claim(running))
        last: DoneEvent | ErrorEvent | None = None
        try:
            last = await self._answer(running, record, study, facts)
        except TraumaAPIError as error:
            last = await self._end_early(running, "failed", error)
        except asyncio.CancelledError:
            reason = ServiceStoppingError() if self._draining.is_set() else AnswerStoppedError()
            last = await self._end_early(running, "stopped", reason)
        finally:
            running.detach()
            held.close()
            renewal.cancel()
            last = last or await self._end_early(running, "failed", TraumaAPIError())
            # Before the reader hears of the end: its next question must find the session free.
            await self._release_claim(running)
            running.end(last)

    async def _answer(
        self, running: RunningAnswer, record: SessionRecord, study: StoredStudy, facts: Facts
    ) -> DoneEvent:
        async def write(
            statements: Sequence[str], slots: Sequence[str], on_text: Callable[[str], None] | None = None
        ) -> str:
            past = _recent_turns(record) if on_text is not None else []
            build = partial(
                answer_turns, study.stack, _slices(record), statements, slots, past, running.answer.question
            )
            request = GenerationRequest(
                turns=await anyio.to_thread.run_sync(build),
                max_new_tokens=self._answer_max_tokens,
                use_adapter=False,
                slots=tuple(slots),
                shared_text=answer_opening(statements, slots) if on_text is not None else "",
            )
            return (await self._port.generate(request, on_text)).text

        await write(facts.all_statements, facts.slot_names, running.push)
        await running.settle(write)
        answer = self._finished(running, "done")
        return DoneEvent(answer=await self._keep(answer, _kept_turn(answer, running.written)))

    async def _keep(self, answer: Answer, turn: KeptTurn) -> Answer:
        """Keep a finished answer and its turn; what cannot be kept is said in the answer."""
        try:
            await while_store_is_away(partial(self._store.put_answer, answer), STORE_PATIENCE_S)
            await while_store_is_away(lambda: self._sessions.add_turn(answer.session_id, turn), STORE_PATIENCE_S)
        except (StoreUnavailableError, SessionNotFoundError):
            caveat = Caveat(
                code="answer-not-kept",
                detail="The answer is complete, but could not be kept: later questions will not know of it.",
            )
            return answer.model_copy(update={"warnings": [*answer.warnings, caveat]})
        return answer

    async def _end_early(self, running: RunningAnswer, status: AnswerStatus, error: TraumaAPIError) -> ErrorEvent:
        running.answer = self._finished(running, status, error.code)
        with contextlib.suppress(StoreUnavailableError):
            await self._store.put_answer(running.answer)
        return ErrorEvent(
            code=error.code, detail=error.detail, retryable=error.retryable, answer_id=running.answer.answer_id
        )

    def _finished(self, running: RunningAnswer, status: AnswerStatus, code: str | None = None) -> Answer:
        now = datetime.now(UTC)
        duration_s = (now - running.answer.created_at).total_seconds()
        return running.answer.model_copy(
            update={
                "status": status,
                "text": running.text,
                "sentences": running.sentences,
                "failure_code": code,
                "finished_at": now,
                "provenance": [provenance_of(self._port.info, duration_s, adapter_on=False)],
                "warnings": caveats_of(self._port.info),
            }
        )

    async def _keep_claim(self, running: RunningAnswer) -> None:
        while True:
            await asyncio.sleep(CLAIM_RENEWAL_S)
            with contextlib.suppress(StoreUnavailableError):
                await self._store.renew_session_claim(running.answer.session_id, running.answer.answer_id)

    async def _release_claim(self, running: RunningAnswer) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self._store.release_session_claim(running.answer.session_id, running.answer.answer_id)

    def _forget(self, task: asyncio.Task[None]) -> None:
        running = self._running.pop(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            logger.error("question.crashed", answer_id=running.answer.answer_id, error=type(crash).__name__)

    def drain(self) -> None:
        """Stop all answers; their streams end with an error event."""
        for running in self._running.values():
            running.stop()

    async def close(self) -> None:
        """Stop all answers and wait for their ends."""
        self.drain()
        if self._running:
            await asyncio.wait(list(self._running), timeout=3.0)


def _facts(record: SessionRecord, study: StoredStudy) -> Facts:
    parts = record.briefing.parts
    findings = (
        parts.analysis.result.findings if parts.analysis is not None and parts.analysis.result is not None else None
    )
    volume = parts.volume.result if parts.volume is not None else None
    return collect_facts(study, findings, volume, record.briefing.vitals, record.briefing.clinical_context)


def _slices(record: SessionRecord) -> list[int]:
    parts = record.briefing.parts
    if parts.analysis is not None and parts.analysis.result is not None:
        return parts.analysis.result.slice_indices
    if parts.triage is not None and parts.triage.result is not None:
        return parts.triage.result.selected_slices
    return []


def _recent_turns(record: SessionRecord) -> list[tuple[str, str]]:
    recent: list[tuple[str, str]] = []
    left = HISTORY_BYTES
    for turn in reversed(record.turns):
        left -= len(turn.shown.question.encode()) + len(turn.written.encode())
        if left < 0:
            break
        recent.append((turn.shown.question, turn.written))
    return recent[::-1]


def _kept_turn(answer: Answer, written: str) -> KeptTurn:
    shown = TurnRecord(answer_id=answer.answer_id, question=answer.question, answer=answer.text, at=answer.created_at)
    return KeptTurn(shown=shown, written=written)
