"""Sessions: a finished briefing kept for questions, for 30 minutes from last use and 8 hours at most."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from trauma_api.errors import NotFoundError
from trauma_api.schemas.base import SAMPLE_ID
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.sessions import Session
from trauma_api.services.session_record import KeptTurn, SessionRecord
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StudyNotFoundError

if TYPE_CHECKING:
    from trauma_api.services.store import Store


class SessionNotFoundError(NotFoundError):
    """No session under this id, or its time is over."""

    code = "session-not-found"
    title = "Session not found"
    public_message = "No session is kept under this id, or its time is over. Run a new briefing to open one."


class SessionService:
    """Opens, finds and ends sessions."""

    def __init__(self, store: "Store", studies: StudyService, *, ttl_s: int, max_age_s: int) -> None:
        self._store = store
        self._studies = studies
        self._ttl_s = ttl_s
        self._max_age_s = max_age_s

    async def create(self, session_id: str, briefing: Briefing, *, on_sample: bool) -> None:
        """Open a session for a finished briefing."""
        record = SessionRecord(session_id=session_id, briefing=briefing, created_at=datetime.now(UTC), turns=[])
        await self._store.put_session(record, self._remaining_s(record), only_if_kept=False)
        if on_sample:
            await self._store.put_sample("session", session_id)

    async def load(self, session_id: str) -> SessionRecord:
        """Find a session, which counts as a use. Raises SessionNotFoundError."""
        if session_id == SAMPLE_ID:
            session_id = await self._store.load_sample("session") or SAMPLE_ID
        record = await self._store.load_session(session_id)
        if record is None:
            raise SessionNotFoundError
        remaining_s = self._remaining_s(record)
        if remaining_s == 0 or not await self._store.touch_session(session_id, remaining_s):
            raise SessionNotFoundError
        return record

    async def get(self, session_id: str) -> Session:
        """A session as clients see it. Keeps its study as well, so that a session that is looked at can be asked."""
        record = await self.load(session_id)
        with suppress(StudyNotFoundError):  # removed on purpose: the history can still be read
            await self._studies.open(record.briefing.study_id)
        return record.shown(datetime.now(UTC) + timedelta(seconds=self._remaining_s(record)))

    async def delete(self, session_id: str) -> None:
        """End a session. Raises SessionNotFoundError."""
        record = await self.load(session_id)
        if not await self._store.delete_session(record.session_id):
            raise SessionNotFoundError

    async def add_turn(self, session_id: str, turn: KeptTurn) -> None:
        """Append to the history. Raises SessionNotFoundError when the session has ended meanwhile."""
        record = await self.load(session_id)
        longer = record.model_copy(update={"turns": [*record.turns, turn]})
        if not await self._store.put_session(longer, max(1, self._remaining_s(longer)), only_if_kept=True):
            raise SessionNotFoundError

    def _remaining_s(self, record: SessionRecord) -> int:
        return record.remaining_s(datetime.now(UTC), ttl_s=self._ttl_s, max_age_s=self._max_age_s)
