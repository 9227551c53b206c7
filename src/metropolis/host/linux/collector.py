# SPDX-License-Identifier: Apache-2.0
"""When the garbage collector may stop this process, and for how long.

A full collection looks at every object there is. With 10,000 connections those are two million and
it takes 1 to 2 s on a slow core, during which nothing else happens: no answer, no heartbeat heard,
no lease renewed, and a lease lives for 3 s. Left alone, CPython does that whenever a quarter has
been added to what exists, which is in the middle of a storm of new connections, several times.

Nearly everything here is freed by counting references; a connection that closes, too, which tests
make sure of. So the collector looks at what is new, once, 5 ms at a time: to look again at what
survived would take 30 ms, and a tenth of the CPU in such a storm. A full collection is made after
ten minutes at first, then the more rarely the less it finds, and not while there is so much to look
at: a leader of thousands of nodes puts it off until it leads no more.
"""

import asyncio
import gc
import sys
from typing import Final

YOUNG_OBJECTS: Final = 10_000  # CPython's default of 700 looks at most new objects too early
NEVER: Final = 1 << 30
FIRST_S: Final = 600.0
LONGEST_S: Final = 24 * 3600.0
WORTHWHILE_OBJECTS: Final = 100_000  # about 10 MiB: to find so many was worth the pause
BLOCKS_MAX: Final = 2_000_000  # of memory: a node begins with 0.2 million; at this, 0.5 s


def calm_collector() -> None:
    """Look at new objects only from now on, and never again at those of the start.

    Call it when everything is imported; have `collect_now_and_then` running.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)


async def collect_now_and_then() -> None:
    """Make full collections, for ever."""
    rest_s = FIRST_S
    while True:
        await asyncio.sleep(rest_s)
        if sys.getallocatedblocks() <= BLOCKS_MAX:
            rest_s = next_rest_s(rest_s, found=gc.collect())


def next_rest_s(rest_s: float, *, found: int) -> float:
    """Return how long to wait for the next full collection.

    Args:
        rest_s: How long the wait before the last one was.
        found: How many objects that one freed.
    """
    wanted_s = rest_s / 2 if found >= WORTHWHILE_OBJECTS else rest_s * 2
    return min(LONGEST_S, max(FIRST_S, wanted_s))
