"""An answer while it is being written: its text so far, its events for one reader, and the way to stop it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.report import ProseSentence
from trauma_api.schemas.sessions import Answer, DoneEvent, ErrorEvent, StatusEvent, TokenEvent
from trauma_api.services.checked_prose import ProseCheck, Released, Rewrite
from trauma_api.services.faithfulness import Verdict
from trauma_api.services.sentences import SentenceSplitter

AnswerEvent = StatusEvent | TokenEvent | DoneEvent | ErrorEvent


class RunningAnswer:
    """An answer that is being written, and the events of it for one reader.

    A sentence is shown once it has passed the check; one that fails is held, with all after it, until `settle`.
    """

    def __init__(self, session_id: str, question: str, checks: ProseCheck, *, stop_when_left: bool) -> None:
        self.answer = Answer(
            answer_id=uuid.uuid4().hex,
            session_id=session_id,
            status="running",
            question=question,
            text="",
            sentences=[],
            failure_code=None,
            created_at=datetime.now(UTC),
            finished_at=None,
            provenance=[],
            warnings=[],
            notice=RESEARCH_NOTICE,
        )
        self.ended = asyncio.Event()
        self._checks = checks
        self._splitter = SentenceSplitter()
        self._held: list[tuple[str, Verdict]] = []
        self._events: asyncio.Queue[AnswerEvent] = asyncio.Queue()
        self._stop_when_left = stop_when_left
        self._is_written = False
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._events.put_nowait(StatusEvent(answer_id=self.answer.answer_id, status="running"))

    @property
    def text(self) -> str:
        """The answer so far, as shown."""
        return " ".join(one.shown.text for one in self._checks.released if one.shown.text)

    @property
    def written(self) -> str:
        """The answer so far, slots unfilled, as later questions are told of it."""
        return " ".join(one.written for one in self._checks.released if one.written)

    @property
    def sentences(self) -> list[ProseSentence]:
        """How each sentence so far was checked."""
        return [one.shown for one in self._checks.released]

    def attach(self, task: asyncio.Task[None]) -> None:
        """Tie the answer to the task that writes it."""
        self._task = task

    def detach(self) -> None:
        """Its end has begun, which stopping must not break off."""
        self._task = None

    def push(self, written: str) -> None:
        """The model wrote the next piece."""
        for sentence in self._splitter.feed(written):
            self._take(sentence)

    async def settle(self, rewrite: Rewrite) -> None:
        """The model has ended: show what is left, each sentence as it is, written anew, or replaced."""
        for sentence in self._splitter.rest():
            self._take(sentence)
        for sentence, verdict in self._held:
            self._show(await self._checks.settle(sentence, verdict, rewrite))
        self._held = []
        instead = self._checks.nothing_shown()
        if instead is not None:
            self._show(instead)
        self._is_written = True

    def _take(self, sentence: str) -> None:
        verdict = self._checks.verdict(sentence)
        if self._held or verdict.reasons:
            self._held.append((sentence, verdict))
        else:
            self._show(self._checks.pass_on(sentence, verdict))

    def _show(self, released: Released) -> None:
        if text := released.shown.text:
            first = self.text == text
            self._events.put_nowait(TokenEvent(text=text if first else f" {text}"))

    def end(self, last: DoneEvent | ErrorEvent) -> None:
        """Nothing follows."""
        if isinstance(last, DoneEvent):
            self.answer = last.answer
        self._events.put_nowait(last)
        self.ended.set()

    def leave(self) -> None:
        """The reader is gone: stop writing, unless all is written or the answer was asked to go on.

        Safe to call repeatedly.
        """
        if self._stop_when_left and not self._is_written:
            self.stop()

    def stop(self) -> None:
        """Stop writing; a second time does nothing, as it would break off the end that the first one brought about."""
        if self._task is not None and not self._is_stopped:
            self._is_stopped = True
            self._task.cancel()

    async def events(self) -> AsyncIterator[AnswerEvent]:
        """Status, then tokens, then done or error."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, DoneEvent | ErrorEvent):
                return
