"""What is kept in Redis: briefings with their event logs, sessions, answers. The only importer of redis.

Keys, all with a time to live:

    trauma:briefing:{id}          Briefing as JSON
    trauma:briefing:{id}:events   list of BriefingEvent as JSON; event n is item n - 1
    trauma:briefing:{id}:lease    the process that works on it, renewed while it does
    trauma:briefing:{id}:cancel   set when somebody asked to cancel it
    trauma:session:{id}           SessionRecord as JSON
    trauma:session:{id}:busy      the answer that is being written, renewed while it is
    trauma:session:{id}:answers   hash of Answer as JSON, by id
    trauma:sample:{kind}          id of the last briefing or session on the sample study
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from trauma_api.errors import StoreUnavailableError
from trauma_api.schemas.briefings import Briefing, BriefingEvent
from trauma_api.schemas.sessions import Answer
from trauma_api.services.session_record import SessionRecord

LEASE_S = 15

# Compare and delete in one step: between a GET and a DEL the key could have expired and been taken by another.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
# An answer is kept as long as its session, and not brought back after the session was ended.
_PUT_ANSWER = (
    "if redis.call('exists', KEYS[1]) == 0 then return 0 end "
    "redis.call('hset', KEYS[2], ARGV[1], ARGV[2]) redis.call('expire', KEYS[2], ARGV[3]) return 1"
)
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('expire', KEYS[1], ARGV[2]) else return 0 end"


def connect(url: str | None, unix_socket: str | None = None) -> "Redis":
    """A client with bounded connections, short timeouts and few retries, so that an outage shows within seconds."""
    options: dict[str, Any] = {
        "max_connections": 64,
        "timeout": 2,
        "socket_timeout": 2,
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.05), 2),
        "decode_responses": True,
        # The default reads the client's version from disk for each connection, on the event loop.
        "driver_info": None,
    }
    if unix_socket is not None:
        pool = BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=unix_socket, **options)
    else:
        pool = BlockingConnectionPool.from_url(url or "", socket_connect_timeout=1, health_check_interval=30, **options)
    return Redis.from_pool(pool)


@contextmanager
def _translated() -> Iterator[None]:
    cancellations = _cancellations()
    try:
        yield
    except (RedisError, OSError) as error:
        if _cancellations() > cancellations:
            raise asyncio.CancelledError from error
        raise StoreUnavailableError from error
    # The client sends through asyncio.wait_for, which before Python 3.12 may swallow a cancellation.
    if _cancellations() > cancellations:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often the running task was asked to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class Store:
    """Typed access to what is kept. Every method raises StoreUnavailableError when Redis does not answer."""

    def __init__(self, client: "Redis", *, ttl_s: int) -> None:
        self._redis = client
        self._ttl_s = ttl_s

    async def ping(self) -> None:
        """Check that Redis answers and takes writes."""
        with _translated():
            await self._redis.set("trauma:ready", "1", ex=10)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def put_briefing(self, briefing: Briefing, events: Sequence[BriefingEvent], owner: str) -> None:
        """Write a briefing's state, and those of its events that are not there yet. Safe to repeat."""
        key = f"trauma:briefing:{briefing.briefing_id}"
        with _translated():
            known = await self._redis.llen(f"{key}:events")
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, briefing.model_dump_json(), ex=self._ttl_s)
                if events[known:]:
                    pipe.rpush(f"{key}:events", *(event.model_dump_json() for event in events[known:]))
                pipe.expire(f"{key}:events", self._ttl_s)
                if briefing.is_final:
                    pipe.delete(f"{key}:lease")
                else:
                    pipe.set(f"{key}:lease", owner, ex=LEASE_S)
                await pipe.execute()

    async def renew_briefing(self, briefing_id: str) -> bool:
        """Keep a running briefing alive; False when Redis has lost it."""
        key = f"trauma:briefing:{briefing_id}"
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.expire(key, self._ttl_s)
                pipe.expire(f"{key}:events", self._ttl_s)
                pipe.expire(f"{key}:lease", LEASE_S)
                kept = await pipe.execute()
        return all(kept)

    async def load_briefing(self, briefing_id: str) -> tuple[Briefing, bool] | None:
        """A briefing, and whether a process still works on it. Counts as a use."""
        key = f"trauma:briefing:{briefing_id}"
        with _translated():
            # At once: an end that came between the state and the lease would look like a lost lease.
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.getex(key, ex=self._ttl_s)
                pipe.expire(f"{key}:events", self._ttl_s)
                pipe.exists(f"{key}:lease")
                text, _, leased = await pipe.execute()
        if text is None:
            return None
        return Briefing.model_validate_json(text), bool(leased)

    async def load_events(self, briefing_id: str, after: int, limit: int = 1000) -> list[BriefingEvent]:
        """Events with an id above ``after``, in order."""
        with _translated():
            items = await self._redis.lrange(f"trauma:briefing:{briefing_id}:events", after, after + limit - 1)
        return [BriefingEvent.model_validate_json(item) for item in items]

    async def delete_briefing(self, briefing_id: str) -> None:
        """Forget a briefing."""
        key = f"trauma:briefing:{briefing_id}"
        with _translated():
            await self._redis.delete(key, f"{key}:events", f"{key}:lease", f"{key}:cancel")

    async def adopt_briefing(self, briefing_id: str, owner: str) -> bool:
        """Take over a briefing whose process is gone; False when another has it."""
        with _translated():
            return bool(await self._redis.set(f"trauma:briefing:{briefing_id}:lease", owner, ex=LEASE_S, nx=True))

    async def request_cancel(self, briefing_id: str) -> None:
        """Ask whichever process works on it to cancel a briefing."""
        with _translated():
            await self._redis.set(f"trauma:briefing:{briefing_id}:cancel", "1", ex=self._ttl_s)

    async def cancel_requested(self, briefing_id: str) -> bool:
        """Whether somebody asked to cancel it."""
        with _translated():
            return bool(await self._redis.exists(f"trauma:briefing:{briefing_id}:cancel"))

    async def put_session(self, record: SessionRecord, ttl_s: int, *, only_if_kept: bool) -> bool:
        """Write a session; with ``only_if_kept`` not one that has expired or been deleted. Returns whether it did."""
        with _translated():
            return bool(
                await self._redis.set(
                    f"trauma:session:{record.session_id}", record.model_dump_json(), ex=ttl_s, xx=only_if_kept
                )
            )

    async def load_session(self, session_id: str) -> SessionRecord | None:
        """A session, or None when it is not kept any more."""
        with _translated():
            text = await self._redis.get(f"trauma:session:{session_id}")
        return None if text is None else SessionRecord.model_validate_json(text)

    async def touch_session(self, session_id: str, ttl_s: int) -> bool:
        """Move a session's end on; False when it is not kept any more."""
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.expire(f"trauma:session:{session_id}", ttl_s)
                pipe.expire(f"trauma:session:{session_id}:answers", ttl_s)
                kept, _ = await pipe.execute()
        return bool(kept)

    async def delete_session(self, session_id: str) -> bool:
        """Forget a session and its answers. Returns whether there was one."""
        key = f"trauma:session:{session_id}"
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.delete(f"{key}:answers", f"{key}:busy")
                found, _ = await pipe.execute()
        return bool(found)

    async def claim_session(self, session_id: str, answer_id: str) -> bool:
        """Take the session for one answer; False when another has it."""
        with _translated():
            return bool(await self._redis.set(f"trauma:session:{session_id}:busy", answer_id, ex=LEASE_S, nx=True))

    async def renew_session_claim(self, session_id: str, answer_id: str) -> None:
        """Keep the session taken while the answer is being written."""
        with _translated():
            await self._redis.eval(_RENEW, 1, f"trauma:session:{session_id}:busy", answer_id, str(LEASE_S))

    async def release_session_claim(self, session_id: str, answer_id: str) -> None:
        """Let the next question in."""
        with _translated():
            await self._redis.eval(_RELEASE, 1, f"trauma:session:{session_id}:busy", answer_id)

    async def put_answer(self, answer: Answer) -> bool:
        """Write an answer. Returns whether its session is still kept, and so the answer."""
        key = f"trauma:session:{answer.session_id}"
        arguments = (answer.answer_id, answer.model_dump_json(), str(self._ttl_s))
        with _translated():
            return bool(await self._redis.eval(_PUT_ANSWER, 2, key, f"{key}:answers", *arguments))

    async def load_answer(self, session_id: str, answer_id: str) -> Answer | None:
        """An answer, or None when it is not kept any more."""
        with _translated():
            text = await self._redis.hget(f"trauma:session:{session_id}:answers", answer_id)
        return None if text is None else Answer.model_validate_json(text)

    async def put_sample(self, kind: Literal["briefing", "session"], value: str) -> None:
        """Remember the last briefing or session on the sample study."""
        with _translated():
            await self._redis.set(f"trauma:sample:{kind}", value, ex=self._ttl_s)

    async def load_sample(self, kind: Literal["briefing", "session"]) -> str | None:
        """Id of the last briefing or session on the sample study."""
        with _translated():
            value = await self._redis.getex(f"trauma:sample:{kind}", ex=self._ttl_s)
        return None if value is None else str(value)
