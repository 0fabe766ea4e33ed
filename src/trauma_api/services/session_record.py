"""A session as it is kept: the briefing it came from, and the turns in the model's own words."""

import math
from datetime import datetime, timedelta

from trauma_api.schemas.base import RESEARCH_NOTICE, Schema, Timestamp
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.sessions import Session, TurnRecord


class KeptTurn(Schema):
    """A turn, with the answer as shown and as the model wrote it (numbers as named slots)."""

    shown: TurnRecord
    written: str


class SessionRecord(Schema):
    """What a session is kept as."""

    session_id: str
    briefing: Briefing
    created_at: Timestamp
    turns: list[KeptTurn]

    def remaining_s(self, now: datetime, *, ttl_s: int, max_age_s: int) -> int:
        """Seconds for which it is kept from ``now`` on when it is used now; 0 when its time is over."""
        end_of_life = self.created_at + timedelta(seconds=max_age_s)
        return max(0, min(ttl_s, math.ceil((end_of_life - now).total_seconds())))

    def shown(self, expires_at: datetime) -> Session:
        """As clients see it."""
        return Session(
            session_id=self.session_id,
            briefing_id=self.briefing.briefing_id,
            study_id=self.briefing.study_id,
            created_at=self.created_at,
            expires_at=expires_at,
            history=[turn.shown for turn in self.turns],
            notice=RESEARCH_NOTICE,
        )
