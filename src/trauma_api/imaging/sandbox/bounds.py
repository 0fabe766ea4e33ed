"""What one child process may use, enforced by the kernel."""

import math
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_OPEN_FILES = 64


@dataclass(frozen=True)
class ChildBounds:
    """Limits of one child process. Beyond any of them the kernel refuses or kills, whatever code is running."""

    memory_bytes: int = 2**30
    """Address space beyond what the fork server had already. Not enforced outside Linux."""
    cpu_s_per_file: int = 10
    """Processor time from one file to the next."""
    wall_s: float = 120.0
    """From the start of the child to its end."""
    file_bytes: int = 4 * 2**30
    """Size of any file that it writes."""


def apply_bounds(bounds: ChildBounds) -> None:
    """Bound this process: address space, size of files, open files, wall-clock time; no core dumps.

    SIGALRM and SIGXCPU keep their default action, so that they end the process also inside a decoder's C code.
    """
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, _address_space_bytes() + bounds.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    signal.setitimer(signal.ITIMER_REAL, max(bounds.wall_s, 0.001))
    allow_cpu(bounds)


def allow_cpu(bounds: ChildBounds) -> None:
    """Give the file that comes next its processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(usage.ru_utime + usage.ru_stime) + bounds.cpu_s_per_file, hard))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
