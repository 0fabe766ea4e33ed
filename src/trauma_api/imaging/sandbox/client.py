"""The service's side of the sandbox: starts the fork server and runs jobs in bounded child processes.

All calls block, and are made from worker threads.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trauma_api.imaging.sandbox.bounds import ChildBounds
from trauma_api.imaging.sandbox.messages import (
    ENDED,
    FAILED,
    FAILED_TAG,
    MAX_LINE_BYTES,
    REFUSED,
    REFUSED_TAG,
    REQUEST,
    RESULT_TAG,
    SYSTEM_FAILED,
    SYSTEM_TAG,
    WHOLE_LINE,
    Ended,
    Failed,
    Refused,
    Request,
    SystemFailed,
)

_GRACE_S = 5.0
_BACKLOG = 128


class SandboxError(Exception):
    """The fork server does not start or does not answer: a fault of the installation or the host."""


@dataclass(frozen=True)
class Result:
    """One result of a task, as the task's JSON."""

    payload: bytes


Message = Result | Refused | SystemFailed | Failed | Ended


class Sandbox:
    """Bounded child processes for work on a client's bytes. Started by the first job, or by `start`.

    ``children`` run at once, over all uploads; further jobs wait for their turn.
    """

    def __init__(self, children: int, bounds: ChildBounds | None = None) -> None:
        self.children = children
        self.bounds = bounds or ChildBounds()
        self._turns = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def alive(self) -> bool:
        """Whether the fork server runs. One that died is started again by the next job."""
        return self._server is not None and self._server.poll() is None

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None before the start and after the end."""
        return self._server.pid if self._server is not None else None

    def start(self) -> None:
        """Start the fork server, unless it runs. Returns before it has loaded its libraries."""
        with self._lock:
            if not self.alive:
                self._stop()
                self._launch()

    def close(self) -> None:
        """Stop the fork server and its children."""
        with self._lock:
            self._stop()

    def run(self, task: str, arguments: bytes, bounds: ChildBounds | None = None) -> Iterator[Message]:
        """Run a task in a child of its own and pass on what it says; the last message is Ended, unless it refused.

        Raises SandboxError.
        """
        bounds = bounds or self.bounds
        request = Request(task, arguments.decode(), bounds)
        with self._turns, self._connect() as connection:
            try:
                # The kernel ends the child at its wall-clock limit; this is for a host that is stuck.
                connection.settimeout(bounds.wall_s + _GRACE_S)
                body = REQUEST.dump_json(request)
                connection.sendall(len(body).to_bytes(8, "big") + body)
                yield from _messages(connection)
            except OSError as error:
                raise SandboxError("The reading process does not answer.") from error

    def _connect(self) -> socket.socket:
        self.start()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self._socket_path()))
        except OSError as error:
            connection.close()
            raise SandboxError("The reading process does not answer.") from error
        return connection

    def _socket_path(self) -> Path:
        if self._folder is None:
            raise SandboxError("The reading process was stopped.")
        return self._folder / "jobs.sock"

    def _launch(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="trauma-api-sandbox-"))
        lifeline_read, lifeline_write = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self._socket_path()))
            listener.listen(_BACKLOG)
            try:
                # No environment: a child that runs a client's bytes must not find keys and tokens in it. One thread
                # for linear algebra, because a process with threads must not fork.
                self._server = subprocess.Popen(  # noqa: S603 - our own module
                    [
                        sys.executable,
                        "-m",
                        "trauma_api.imaging.sandbox.server",
                        str(listener.fileno()),
                        str(lifeline_read),
                    ],
                    env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(listener.fileno(), lifeline_read),
                    start_new_session=True,
                )
            except OSError as error:
                os.close(lifeline_write)
                raise SandboxError("The reading process does not start.") from error
            finally:
                os.close(lifeline_read)
        self._lifeline_fd = lifeline_write

    def _stop(self) -> None:
        if self._server is not None:
            os.close(self._lifeline_fd)
            try:
                self._server.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _messages(connection: socket.socket) -> Iterator[Message]:
    with connection.makefile("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            if not line.endswith(WHOLE_LINE + b"\n"):
                continue
            try:
                message = _message(line[:1], line[1 : -len(WHOLE_LINE) - 1])
            except ValidationError:  # only a child that a file has taken over speaks like that
                message = Ended(exit_code=1, signal=None)
            yield message
            if isinstance(message, Ended):
                return
    raise SandboxError("The reading process ended.")


def _message(tag: bytes, payload: bytes) -> Message:
    if tag == RESULT_TAG:
        return Result(payload)
    if tag == REFUSED_TAG:
        return REFUSED.validate_json(payload)
    if tag == SYSTEM_TAG:
        return SYSTEM_FAILED.validate_json(payload)
    if tag == FAILED_TAG:
        return FAILED.validate_json(payload)
    return ENDED.validate_json(payload)
