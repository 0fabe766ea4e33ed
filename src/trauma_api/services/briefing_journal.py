"""The journal of one running briefing: its state and events, published to the store and again after an outage.

The process that works on a briefing is the only writer of its state. It keeps the whole journal, so that when Redis was
away, or came back empty, everything is written again under the same event ids.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trauma_api.errors import StoreUnavailableError
from trauma_api.schemas.briefings import (
    Briefing,
    BriefingEvent,
    BriefingEventList,
    BriefingStatus,
    EventType,
    PartFailure,
    PartName,
    PartStatus,
)
from trauma_api.services.retry import PAUSE_S

if TYPE_CHECKING:
    from trauma_api.services.store import Store

HEARTBEAT_S = 1.0
PROGRESS_INTERVAL_S = 0.2
PATIENCE_S = 15 * 60
"""How long a finished briefing is offered to a store that does not answer."""


class BriefingJournal:
    """State and events of one briefing."""

    def __init__(self, briefing: Briefing, store: "Store", owner: str) -> None:
        self.briefing = briefing
        self._events: list[BriefingEvent] = []
        self._store = store
        self._owner = owner
        self._changed = asyncio.Event()
        self._published = BriefingEventList(briefing_id=briefing.briefing_id, status=briefing.status, events=[])
        self._store_is_away = False
        self._last_progress: dict[PartName, float] = {}

    def add_event(
        self,
        type_: EventType,
        *,
        part: PartName | None = None,
        status: PartStatus | None = None,
        code: str | None = None,
        done: int | None = None,
        total: int | None = None,
    ) -> None:
        """Append an event."""
        self._events.append(
            BriefingEvent(
                id=len(self._events) + 1,
                type=type_,
                at=datetime.now(UTC),
                part=part,
                status=status,
                code=code,
                done=done,
                total=total,
            )
        )
        self._changed.set()

    def restore(self, events: list[BriefingEvent]) -> None:
        """Take over the events that another process wrote."""
        self._events = list(events)

    def update(self, **changes: Any) -> None:
        """Change the state."""
        self.briefing = self.briefing.model_copy(update=changes)
        self._changed.set()

    def end_part(self, name: PartName, outcome: Any) -> None:
        """A part has ended, done or unavailable."""
        self.update(parts=self.briefing.parts.model_copy(update={name: outcome}))
        failure = outcome.failure
        self.add_event("part", part=name, status=outcome.status, code=None if failure is None else failure.code)

    def progress_of(self, part: PartName) -> Callable[[int, int], None]:
        """A callback that logs a part's progress, a few times a second at most."""

        def on_progress(done: int, total: int) -> None:
            now = time.monotonic()
            if done < total and now - self._last_progress.get(part, 0.0) < PROGRESS_INTERVAL_S:
                return
            self._last_progress[part] = now
            self.add_event("progress", part=part, done=done, total=total)

        return on_progress

    def finish(self, status: BriefingStatus, failure: PartFailure | None = None) -> None:
        """The briefing has ended. The first end stands."""
        if self.briefing.is_final:
            return
        self.update(status=status, failure=failure, finished_at=datetime.now(UTC))
        self.add_event(status, code=None if failure is None else failure.code)  # type: ignore[arg-type]  # final ones are event types

    async def publish(self) -> None:
        """Write everything that the store has not got. Raises StoreUnavailableError."""
        self._changed.clear()
        # A snapshot: the run goes on while this is written, and an end must not be seen before its state.
        briefing, events = self.briefing, tuple(self._events)
        await self._store.put_briefing(briefing, events, self._owner)
        self._published = self._published.model_copy(update={"status": briefing.status, "events": list(events)})
        self._store_is_away = False

    @property
    def published_status(self) -> BriefingStatus | None:
        """How the briefing stands in the store, without asking it; None while it is away."""
        return None if self._store_is_away else self._published.status

    def published_after(self, after: int) -> BriefingEventList | None:
        """What the store has, without asking it, of events with an id above ``after``; None while it is away.

        Hundreds may follow a briefing, and each of them looks ten times a second.
        """
        if self._store_is_away:
            return None
        return self._published.model_copy(update={"events": self._published.events[after:]})

    async def keep_published(self, cancel: Callable[[], object]) -> None:
        """Publish changes until the end is written; renew the lease; call ``cancel`` when somebody asks for it."""
        briefing_id = self.briefing.briefing_id
        deadline: float | None = None
        dirty = False
        while True:
            try:
                dirty = dirty or await self._wait_for_change() or not await self._store.renew_briefing(briefing_id)
                if dirty:
                    final = self.briefing.is_final
                    await self.publish()
                    dirty = False
                    if final:
                        return
                if await self._store.cancel_requested(briefing_id):
                    cancel()
            except StoreUnavailableError:
                dirty = self._store_is_away = True
                if self.briefing.is_final:
                    deadline = deadline or time.monotonic() + PATIENCE_S
                    if time.monotonic() > deadline:
                        return
                await asyncio.sleep(PAUSE_S)

    async def _wait_for_change(self) -> bool:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
