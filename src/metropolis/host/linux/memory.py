# SPDX-License-Identifier: Apache-2.0
"""How this process takes memory from the kernel and gives it back."""

import ctypes
from typing import Final

LARGE_BYTES: Final = 128 << 10
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
    try:
        library = ctypes.CDLL(None)
        return all(
            library.mallopt(parameter, LARGE_BYTES)
            for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
        )
    except AttributeError:
        return False
