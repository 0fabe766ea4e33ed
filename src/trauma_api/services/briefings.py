"""Briefings as jobs: taken at once, worked on in the background, followed by events, cancelled on request."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from trauma_api.errors import NotFoundError, TraumaAPIError, UnavailableError
from trauma_api.log import get_logger
from trauma_api.schemas.base import RESEARCH_NOTICE, SAMPLE_ID
from trauma_api.schemas.briefings import (
    FINAL_STATUSES,
    Briefing,
    BriefingEvent,
    BriefingEventList,
    BriefingLinks,
    BriefingParts,
    BriefingRequest,
    PartFailure,
    SessionPart,
)
from trauma_api.services.briefing_journal import BriefingJournal
from trauma_api.services.briefing_run import BriefingRun, failure_of
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.gate import ComputeGate, stat
from trauma_api.services.retry import while_store_is_away
from trauma_api.services.sessions import SessionService
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StoredStudy
from trauma_api.services.turns import Turns

if TYPE_CHECKING:
    from trauma_api.services.store import Store

POLL_S = 0.1
STORE_PATIENCE_S = 20.0
LOST_LEASE_PAUSE_S = 2.0

logger = get_logger()


class BriefingNotFoundError(NotFoundError):
    """No briefing under this id, or its time is over."""

    code = "briefing-not-found"
    title = "Briefing not found"
    public_message = "No briefing is kept under this id, or its time is over. Start a new one with POST /v1/briefings."


class ServiceStoppingError(UnavailableError):
    """The service is shutting down."""

    code = "service-stopping"
    title = "Service stopping"
    public_message = "The service is stopping. Send the request again; another instance or a later start will take it."


class BriefingQueueFullError(UnavailableError):
    """As many briefings as are allowed are queued or running."""

    code = "briefing-queue-full"
    title = "Briefing queue full"
    public_message = "As many briefings as the service takes are queued or running. Try again after Retry-After."
    retry_after_s = 15


_NOTHING_AVAILABLE = PartFailure(
    code="nothing-available", detail="Neither the reading nor the volume succeeded; see the parts.", retryable=False
)
_INTERRUPTED = PartFailure(
    code="interrupted",
    detail="The process that worked on this briefing is gone. Start the briefing again.",
    retryable=True,
)


class BriefingService:
    """Takes briefings, works on them, and tells how they stand."""

    def __init__(
        self,
        *,
        run: BriefingRun,
        studies: StudyService,
        sessions: SessionService,
        store: "Store",
        gate: ComputeGate,
        concurrent: int,
        queue_limit: int,
        draining: asyncio.Event,
    ) -> None:
        self._run = run
        self._studies = studies
        self._sessions = sessions
        self._store = store
        self._gate = gate
        self._turns = Turns(concurrent)
        self._queue_limit = queue_limit
        self._taken = 0
        self._draining = draining
        self._owner = uuid.uuid4().hex
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._journals: dict[str, BriefingJournal] = {}
        """Of briefings whose end is not in the store yet; what the store says of them may be behind."""
        self._publishers: set[asyncio.Task[None]] = set()

    async def start(self, request: BriefingRequest) -> Briefing:
        """Take a briefing.

        Raises StudyNotFoundError, StudyNotEligibleError, BriefingQueueFullError, StoreUnavailableError.
        """
        if self._draining.is_set():
            raise ServiceStoppingError
        study = await self._studies.open(request.study_id)
        require_eligible(study)
        with ExitStack() as held:
            held.enter_context(self._place())
            held.enter_context(self._gate.admission())
            journal = BriefingJournal(_new_briefing(study, request), self._store, self._owner)
            journal.add_event("queued")
            await journal.publish()
            self._launch(journal, study, request, held.pop_all())
        return journal.briefing

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold one of the places for briefings. Raises BriefingQueueFullError."""
        if self._taken >= self._queue_limit:
            raise BriefingQueueFullError
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def _launch(
        self,
        journal: BriefingJournal,
        study: StoredStudy,
        request: BriefingRequest,
        admission: ExitStack,
    ) -> None:
        briefing_id = journal.briefing.briefing_id
        job = asyncio.create_task(self._work(journal, study, request))

        def ended(task: asyncio.Task[None]) -> None:
            admission.close()
            self._jobs.pop(briefing_id, None)
            if not task.cancelled() and task.exception() is not None:
                logger.error("briefing.crashed", briefing_id=briefing_id, error=_kinds(task.exception()))
                journal.finish("failed", failure_of(TraumaAPIError()))

        job.add_done_callback(ended)
        self._jobs[briefing_id] = job
        publisher = asyncio.create_task(journal.keep_published(job.cancel))

        def published(task: asyncio.Task[None]) -> None:
            self._publishers.discard(task)
            self._journals.pop(briefing_id, None)

        publisher.add_done_callback(published)
        self._publishers.add(publisher)
        self._journals[briefing_id] = journal

    async def _work(self, journal: BriefingJournal, study: StoredStudy, request: BriefingRequest) -> None:
        urgent = request.priority == "stat"
        stat.set(urgent)
        try:
            async with self._turns.turn(stat=urgent):
                if await self._run.run(journal, study, request):
                    await self._open_session(journal)
                    journal.finish("done")
                else:
                    journal.finish("failed", _NOTHING_AVAILABLE)
        except asyncio.CancelledError:
            if self._draining.is_set():
                journal.finish("failed", failure_of(ServiceStoppingError()))
            else:
                journal.finish("cancelled")

    async def _open_session(self, journal: BriefingJournal) -> None:
        session_id = uuid.uuid4().hex
        briefing = journal.briefing
        on_sample = self._studies.is_sample(briefing.study_id)
        part = SessionPart(status="done", failure=None, session_id=session_id)
        links = links_of(briefing.briefing_id, briefing.study_id, session_id)
        kept = briefing.model_copy(
            update={"status": "done", "links": links, "parts": briefing.parts.model_copy(update={"session": part})}
        )
        try:
            await while_store_is_away(
                lambda: self._sessions.create(session_id, kept, on_sample=on_sample), STORE_PATIENCE_S
            )
            if on_sample:
                await while_store_is_away(lambda: self._store.put_sample("briefing", briefing.briefing_id), 1.0)
            journal.update(links=links)
        except TraumaAPIError as error:
            part = SessionPart(status="unavailable", failure=failure_of(error), session_id=None)
        journal.end_part("session", part)

    async def get(self, briefing_id: str) -> Briefing:
        """How a briefing stands. Raises BriefingNotFoundError, StoreUnavailableError."""
        if briefing_id == SAMPLE_ID:
            briefing_id = await self._store.load_sample("briefing") or SAMPLE_ID
        loaded = await self._store.load_briefing(briefing_id)
        if loaded is None and briefing_id in self._journals:
            return self._journals[briefing_id].briefing  # the store came back empty and is about to be told again
        if loaded is None:
            raise BriefingNotFoundError
        briefing, leased = loaded
        if briefing.is_final or leased or briefing_id in self._journals:
            return briefing
        return await self._declare_interrupted(briefing)

    async def _declare_interrupted(self, briefing: Briefing) -> Briefing:
        """End a briefing whose process died. After an outage of Redis that process may just be late: look twice."""
        await asyncio.sleep(LOST_LEASE_PAUSE_S)
        if not await self._store.adopt_briefing(briefing.briefing_id, self._owner):
            return briefing
        loaded = await self._store.load_briefing(briefing.briefing_id)
        if loaded is None:
            raise BriefingNotFoundError
        briefing, _ = loaded
        if briefing.is_final:
            return briefing  # its lease was free because it had ended meanwhile
        journal = BriefingJournal(briefing, self._store, self._owner)
        journal.restore(await self._store.load_events(briefing.briefing_id, 0, limit=100_000))
        journal.finish("failed", _INTERRUPTED)
        await journal.publish()
        return journal.briefing

    async def wait(self, briefing_id: str, wait_s: float) -> Briefing:
        """How a briefing stands once it has ended, or after ``wait_s`` seconds."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            briefing = await while_store_is_away(lambda: self.get(briefing_id), min(wait_s, 5.0))
            left_s = deadline - asyncio.get_running_loop().time()
            if briefing.is_final or left_s <= 0 or self._draining.is_set():
                return briefing
            await self._pause(briefing.briefing_id, deadline)

    async def _pause(self, briefing_id: str, deadline: float) -> None:
        """Until it is time to look at a briefing again: for as long as it runs here, if the store can be told.

        To load a whole briefing ten times a second takes a twentieth of a core for each that waits.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, min(POLL_S, deadline - loop.time())))
            journal = self._journals.get(briefing_id)
            status = None if journal is None else journal.published_status
            runs_here = status is not None and status not in FINAL_STATUSES
            if not runs_here or self._draining.is_set() or loop.time() >= deadline:
                return

    async def cancel(self, briefing_id: str) -> Briefing:
        """Cancel a briefing that has not ended; one that has is removed. Returns how it stood or ended."""
        briefing = await self.get(briefing_id)
        if briefing.is_final:
            await self._store.delete_briefing(briefing.briefing_id)
            return briefing
        job = self._jobs.get(briefing.briefing_id)
        if job is not None:
            job.cancel()
        else:
            await self._store.request_cancel(briefing.briefing_id)
        return await self.wait(briefing.briefing_id, 10.0)

    async def events(self, briefing_id: str, after: int) -> BriefingEventList:
        """Events with an id above ``after``."""
        journal = self._journals.get(briefing_id)
        published = None if journal is None else journal.published_after(after)
        if published is not None:
            return published
        briefing = await self.get(briefing_id)
        events = await self._store.load_events(briefing.briefing_id, after)
        return BriefingEventList(briefing_id=briefing.briefing_id, status=briefing.status, events=events)

    async def follow(self, briefing_id: str, after: int) -> AsyncIterator[BriefingEvent]:
        """Events with an id above ``after`` as they come, to the last one.

        Raises StoreUnavailableError when the store stays away, BriefingNotFoundError when the briefing was removed,
        ServiceStoppingError when the service stops.
        """
        while True:
            listed = await while_store_is_away(partial(self.events, briefing_id, after), STORE_PATIENCE_S)
            for event in listed.events:
                yield event
                after = event.id
                if event.is_final:
                    return
            if listed.status in FINAL_STATUSES and not listed.events and briefing_id not in self._journals:
                return  # resumed after the last event
            if self._draining.is_set() and briefing_id not in self._journals:
                raise ServiceStoppingError
            await asyncio.sleep(POLL_S)

    def drain(self) -> None:
        """Cancel all jobs; their ends are written and followed as usual."""
        for job in self._jobs.values():
            job.cancel()

    async def close(self) -> None:
        """Cancel all jobs and give their journals a moment to be written."""
        self.drain()
        jobs = list(self._jobs.values())
        if jobs:
            await asyncio.wait(jobs, timeout=3.0)
        publishers = list(self._publishers)
        if publishers:
            await asyncio.wait(publishers, timeout=2.0)
        for publisher in publishers:
            publisher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*publishers, return_exceptions=True)


def _kinds(error: BaseException | None) -> str:
    """What went wrong by type alone; of a group, its members."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_kinds(member) for member in error.exceptions)
    return type(error).__name__


def _new_briefing(study: StoredStudy, request: BriefingRequest) -> Briefing:
    briefing_id, study_id = uuid.uuid4().hex, study.record.study_id
    return Briefing(
        briefing_id=briefing_id,
        study_id=study_id,
        status="queued",
        failure=None,
        created_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
        priority=request.priority,
        vitals=request.vitals,
        clinical_context=request.clinical_context,
        parts=BriefingParts(triage=None, analysis=None, volume=None, report=None, session=None),
        links=links_of(briefing_id, study_id, None),
        notice=RESEARCH_NOTICE,
    )


def links_of(briefing_id: str, study_id: str, session_id: str | None) -> BriefingLinks:
    """Where to go on from."""
    session_url = None if session_id is None else f"/v1/sessions/{session_id}"
    return BriefingLinks(
        self_url=f"/v1/briefings/{briefing_id}",
        events_url=f"/v1/briefings/{briefing_id}/events",
        study_url=f"/v1/studies/{study_id}",
        report_text_url=f"/v1/briefings/{briefing_id}/report.txt",
        report_markdown_url=f"/v1/briefings/{briefing_id}/report.md",
        report_pdf_url=f"/v1/briefings/{briefing_id}/report.pdf",
        session_url=session_url,
        questions_url=None if session_url is None else f"{session_url}/questions",
    )
