# SPDX-License-Identifier: Apache-2.0
"""Wakes a runnable when links changed or somebody says so; it then looks at everything anew."""

import asyncio
import math
from typing import final

from metropolis.host import Clock
from metropolis.host.network import Links


@final
class Wake:
    """Something changed. Close it."""

    def __init__(self, links: Links) -> None:
        self._event = asyncio.Event()
        self._changes = links.watch()

    def set(self) -> None:
        """Say that something changed."""
        self._event.set()

    def close(self) -> None:
        """Stop to watch."""
        self._changes.close()

    async def wait(self) -> None:
        """Wait until something changed since the last call."""
        async with asyncio.TaskGroup() as group:
            waiting = (
                group.create_task(self._event.wait()),
                group.create_task(self._changes.receive()),
            )
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        self._event.clear()


async def wait_change(wake: Wake, *, until_s: float, clock: Clock) -> None:
    """Wait until something changes or a monotonic time has come."""
    wait_s = until_s - clock.monotonic_s()
    try:
        async with asyncio.timeout(None if math.isinf(wait_s) else max(wait_s, 0.0)):
            await wake.wait()
    except TimeoutError:
        return
