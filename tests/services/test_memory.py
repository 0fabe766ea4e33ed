"""What was freed is the system's again."""

import ctypes
import resource
from pathlib import Path

import numpy as np
import pytest

from trauma_api.services.memory import give_back

MIB = 2**20
BLOCK_BYTES, BLOCKS = 64 * 1024, 4096


def resident_mib() -> float:
    """Of this process, on Linux."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc gives memory back")
def test_memory_that_was_freed_between_blocks_in_use_is_given_back() -> None:
    blocks = [np.ones(BLOCK_BYTES, np.uint8) for _ in range(BLOCKS)]
    del blocks[:-1]  # the last one holds the end of the heap, below which nothing is given back by itself
    held_mib = resident_mib()
    assert give_back()
    given_back_mib = held_mib - resident_mib()
    assert given_back_mib > 0.5 * BLOCK_BYTES * BLOCKS / MIB
