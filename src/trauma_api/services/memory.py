"""Freed memory goes back to the system.

Models free and ask for blocks of all sizes. The C library keeps what is freed in between for later, so that the process
seems to grow for as long as it is used, although what it needs stays the same.
"""

import asyncio
import ctypes

import anyio.to_thread

GIVE_BACK_EVERY_S = 30.0


def give_back() -> bool:
    """Hand freed memory back to the system; says whether the C library can (glibc can, musl and macOS cannot).

    Takes some milliseconds. https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return False
    trim(ctypes.c_size_t(0))
    return True


async def keep_giving_back() -> None:
    """Do so for as long as the service runs."""
    while True:
        await anyio.to_thread.run_sync(give_back)
        await asyncio.sleep(GIVE_BACK_EVERY_S)
