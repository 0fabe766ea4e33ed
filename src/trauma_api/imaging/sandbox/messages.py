"""What a child process says to the service: lines of a tag and JSON, and the fork server's last word."""

import signal
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from trauma_api.imaging.sandbox.bounds import ChildBounds
from trauma_api.imaging.scan import Begun

MAX_LINE_BYTES = 32 * 2**20
"""A multi-frame file of 5,000 frames takes about 6 MiB."""
OUT_OF_MEMORY_EXIT = 77

Ending = Literal["done", "out-of-memory", "out-of-time", "crashed"]


@dataclass(frozen=True)
class Request:
    """What a child is asked for: a task of `tasks.TASKS` with its arguments as JSON."""

    task: str
    arguments: str
    bounds: ChildBounds


@dataclass(frozen=True)
class Refused:
    """The child raised an InputError."""

    code: str
    detail: str


@dataclass(frozen=True)
class SystemFailed:
    """The child met an error of the operating system that is not the client's fault: a full disk, a removed folder."""

    errno: int


@dataclass(frozen=True)
class Failed:
    """The child met an error that nobody expected, named by its type and place: its text may quote the file."""

    kind: str
    place: str


@dataclass(frozen=True)
class Ended:
    """How the child ended, as the fork server saw it."""

    exit_code: int | None
    signal: int | None
    at: Begun | None = None
    """What it had turned to last, counted or placed as its task says; None if it had not begun."""

    @property
    def ending(self) -> Ending:
        """What it means."""
        if self.exit_code == 0:
            return "done"
        if self.exit_code == OUT_OF_MEMORY_EXIT or self.signal == signal.SIGKILL:
            return "out-of-memory"
        return "out-of-time" if self.signal in {signal.SIGXCPU, signal.SIGALRM} else "crashed"


REQUEST = TypeAdapter(Request)
REFUSED = TypeAdapter(Refused)
SYSTEM_FAILED = TypeAdapter(SystemFailed)
FAILED = TypeAdapter(Failed)
ENDED = TypeAdapter(Ended)

RESULT_TAG, REFUSED_TAG, SYSTEM_TAG, FAILED_TAG, ENDED_TAG = b"r", b"e", b"s", b"f", b"!"

WHOLE_LINE = b"."
"""Ends every line, because a child that is killed may leave half of one."""
