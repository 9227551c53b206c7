# SPDX-License-Identifier: Apache-2.0
"""How this process takes memory from the kernel and gives it back."""

import ctypes
from typing import Final

LARGE_BYTES: Final = 128 << 10
KEPT_BYTES: Final = 64 << 20
BUFFER_BYTES: Final = 32 << 20  # the largest that the C library accepts
_M_TRIM_THRESHOLD: Final = -1  # malloc.h of the GNU C library
_M_MMAP_THRESHOLD: Final = -3


def give_memory_back() -> bool:
    """Have the C library give freed memory back to the kernel, for as long as this process lives.

    Buffers of 128 KiB or more are mapped by themselves, and the heap is cut when as much is free
    at its end. By default both limits grow with the largest buffer that was ever freed, up to
    32 and 64 MiB: from then on connections' buffers, of which few bytes are used, and messages
    share one heap with small things that live long, and that heap hardly ever shrinks.

    Returns:
        Whether the C library can do that.
    """
    return _set(_M_MMAP_THRESHOLD, LARGE_BYTES) and _set(_M_TRIM_THRESHOLD, LARGE_BYTES)


def keep_memory() -> bool:
    """Have the C library keep up to 64 MiB of freed memory, for as long as this process lives.

    For a process that makes and frees buffers of megabytes all the time: to take each of them anew
    from the kernel, page by page and every page zeroed, costs as much as filling it.

    Returns:
        Whether the C library can do that.
    """
    return _set(_M_MMAP_THRESHOLD, BUFFER_BYTES) and _set(_M_TRIM_THRESHOLD, KEPT_BYTES)


def _set(parameter: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(parameter, value))
    except AttributeError:
        return False
