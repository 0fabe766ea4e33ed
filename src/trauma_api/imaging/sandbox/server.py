"""The fork server: a process without threads and secrets that forks one bounded child for each job.

Started by `client.Sandbox` as ``python -m trauma_api.imaging.sandbox.server <listening socket> <lifeline>``, two file
descriptors. Each connection is one job. The server itself reads nothing from a connection; the child does, after it has
bounded itself.
"""

import contextlib
import errno
import gc
import mmap
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trauma_api.errors import InputError
from trauma_api.imaging.quiet import quiet_libraries
from trauma_api.imaging.sandbox.bounds import allow_cpu, apply_bounds
from trauma_api.imaging.sandbox.messages import (
    ENDED,
    ENDED_TAG,
    FAILED,
    FAILED_TAG,
    OUT_OF_MEMORY_EXIT,
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
from trauma_api.imaging.sandbox.tasks import TASKS, preload
from trauma_api.imaging.scan import Begun

# Read before the bounds are set, which the request itself states: enough for any request of the service.
_REQUEST_WALL_S = 30.0
FAILED_EXIT = 1
# Results go out together: each message would wake the service up, which the children need the cores for. What a killed
# child had not sent yet is done again by the next one.
_BUFFER_BYTES = 2**16
_PROGRESS = struct.Struct("<?qq")
_NO_NUMBER = -1


def main(listener_fd: int, lifeline_fd: int) -> None:
    """Serve until the lifeline closes, which happens when the service ends in whatever way."""
    quiet_libraries()
    preload()
    # What was imported never changes, and children should not copy its pages by counting references in a collection.
    gc.collect()
    gc.freeze()
    _Server(listener_fd, lifeline_fd).serve()


@dataclass(frozen=True)
class _Job:
    """A connection, and memory shared with its child, which outlives the child and costs it no message."""

    connection: socket.socket
    progress: mmap.mmap

    def begin(self, begun: Begun) -> None:
        """Note what the child turns to."""
        number = _NO_NUMBER if begun.number is None else begun.number
        _PROGRESS.pack_into(self.progress, 0, 1, begun.position, number)

    @property
    def at(self) -> Begun | None:
        """What was noted last."""
        has_begun, position, number = _PROGRESS.unpack_from(self.progress)
        return Begun(position, None if number == _NO_NUMBER else number) if has_begun else None


class _Server:
    """Forks children and reports how each ended."""

    def __init__(self, listener_fd: int, lifeline_fd: int) -> None:
        self._listener = socket.socket(fileno=listener_fd)
        self._lifeline_fd = lifeline_fd
        self._jobs: dict[int, _Job] = {}
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_write, False)

    def serve(self) -> None:
        """Accept jobs and reap children."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        for readable in (self._listener, self._lifeline_fd, self._wakeup_read):
            selector.register(readable, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if self._lifeline_fd in ready:
                self._stop()
                return
            if self._wakeup_read in ready:
                os.read(self._wakeup_read, 4096)
            self._reap()
            if self._listener in ready:
                self._fork()

    def _fork(self) -> None:
        connection, _ = self._listener.accept()
        job = _Job(connection, mmap.mmap(-1, _PROGRESS.size))
        pid = os.fork()
        if pid:
            self._jobs[pid] = job
            return
        # In the child: nothing of the server may stay open here, nor may the child ever return into its loop.
        status = FAILED_EXIT
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._listener.close()
            for other in (self._lifeline_fd, self._wakeup_read, self._wakeup_write):
                os.close(other)
            for sibling in self._jobs.values():
                sibling.connection.close()
            status = _run_child(job)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        while self._jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            job = self._jobs.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            ended = Ended(code, None, job.at) if code >= 0 else Ended(None, -code, job.at)
            with contextlib.suppress(OSError), job.connection:  # the service may have gone away
                # The child may have been killed within a line.
                job.connection.sendall(b"\n" + ENDED_TAG + ENDED.dump_json(ended) + WHOLE_LINE + b"\n")

    def _stop(self) -> None:
        for pid in self._jobs:
            os.kill(pid, signal.SIGKILL)


def _run_child(job: _Job) -> int:
    os.umask(0o077)
    gc.disable()  # it ends before cycles could add up, and its memory is bounded
    # Decoders print what they think of a file, which may quote it.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    connection = job.connection
    with connection, connection.makefile("rwb", buffering=_BUFFER_BYTES) as stream:
        signal.setitimer(signal.ITIMER_REAL, _REQUEST_WALL_S)
        size = int.from_bytes(stream.read(8), "big")
        request = REQUEST.validate_json(stream.read(size))
        apply_bounds(request.bounds)
        try:
            for line in _lines(request, job):
                stream.write(line + WHOLE_LINE + b"\n")
        except MemoryError:
            return OUT_OF_MEMORY_EXIT
        except Exception as error:  # noqa: BLE001 - the last resort of a child, which ends here
            frame = traceback.extract_tb(error.__traceback__)[-1]
            failed = Failed(type(error).__name__, f"{Path(frame.filename).name}:{frame.lineno}")
            stream.write(FAILED_TAG + FAILED.dump_json(failed) + WHOLE_LINE + b"\n")
            return FAILED_EXIT
    return 0


def _lines(request: Request, job: _Job) -> Iterator[bytes]:
    try:
        for said in TASKS[request.task](request.arguments):
            if isinstance(said, Begun):
                allow_cpu(request.bounds)
                job.begin(said)
            else:
                yield RESULT_TAG + said
    except InputError as error:
        yield REFUSED_TAG + REFUSED.dump_json(Refused(error.code, error.detail))
    except OSError as error:
        if error.errno == errno.ENOMEM:  # what mapping a file raises instead of MemoryError
            raise MemoryError from error
        yield SYSTEM_TAG + SYSTEM_FAILED.dump_json(SystemFailed(error.errno or 0))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
