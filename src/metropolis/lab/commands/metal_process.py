# SPDX-License-Identifier: Apache-2.0
"""A process that serves Metal until it is told to stop."""

import asyncio
from collections.abc import Callable

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.collector import calm_collector, collect_now_and_then
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.memory import keep_memory
from metropolis.host.linux.open_files import allow_open_files
from metropolis.metal.main import Serving, run, stop_on_signals


async def serve_until_stopped(serving: Serving, started: Callable[[str], None]) -> None:
    """Serve one replica until SIGINT or SIGTERM, with a process of its own made ready for that.

    Long lists come and go by the megabyte, a hundred times a second; each machine that waits holds
    a connection.

    Args:
        started: Called with the URL of the REST API once it can be reached.
    """
    allow_open_files()
    keep_memory()
    calm_collector()
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with asyncio.TaskGroup() as group:
        collecting = group.create_task(collect_now_and_then())
        await run(
            serving,
            clock=LinuxClock(),
            entropy=LinuxEntropy(),
            stop=stop,
            started=lambda _site, url: started(url),
        )
        collecting.cancel()
