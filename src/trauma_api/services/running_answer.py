"""An answer while it is being written: its text so far, its events for one reader, and the way to stop it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.sessions import Answer, DoneEvent, ErrorEvent, StatusEvent, TokenEvent
from trauma_api.services.facts import Facts, SlotFiller

AnswerEvent = StatusEvent | TokenEvent | DoneEvent | ErrorEvent


class RunningAnswer:
    """An answer that is being written, and the events of it for one reader."""

    def __init__(self, session_id: str, question: str, facts: Facts, *, stop_when_left: bool) -> None:
        self.answer = Answer(
            answer_id=uuid.uuid4().hex,
            session_id=session_id,
            status="running",
            question=question,
            text="",
            failure_code=None,
            created_at=datetime.now(UTC),
            finished_at=None,
            provenance=[],
            warnings=[],
            notice=RESEARCH_NOTICE,
        )
        self.ended = asyncio.Event()
        self._filler = SlotFiller(facts.slots)
        self._pieces: list[str] = []
        self._events: asyncio.Queue[AnswerEvent] = asyncio.Queue()
        self._stop_when_left = stop_when_left
        self._task: asyncio.Task[None] | None = None
        self._events.put_nowait(StatusEvent(answer_id=self.answer.answer_id, status="running"))

    @property
    def text(self) -> str:
        """The answer so far, as shown."""
        return "".join(self._pieces)

    def attach(self, task: asyncio.Task[None]) -> None:
        """Tie the answer to the task that writes it."""
        self._task = task

    def push(self, written: str) -> None:
        """The model wrote the next piece."""
        shown = self._filler.feed(written)
        if shown:
            self._pieces.append(shown)
            self._events.put_nowait(TokenEvent(text=shown))

    def end(self, last: DoneEvent | ErrorEvent) -> None:
        """Nothing follows."""
        if isinstance(last, DoneEvent):
            self.answer = last.answer
        self._events.put_nowait(last)
        self.ended.set()

    def leave(self) -> None:
        """The reader is gone: stop writing, unless the answer was asked to go on. Safe to call repeatedly."""
        if self._stop_when_left:
            self.stop()

    def stop(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()

    async def events(self) -> AsyncIterator[AnswerEvent]:
        """Status, then tokens, then done or error."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, DoneEvent | ErrorEvent):
                return
