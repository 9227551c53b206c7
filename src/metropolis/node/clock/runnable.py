# SPDX-License-Identifier: Apache-2.0
"""Keeps the clock right, and remembers the time for the next start."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from metropolis.base.errors import MetropolisError
from metropolis.host import Clock, Directory, Processes, ProcessSpec
from metropolis.host.time_keeping import ClockSetting
from metropolis.node.clock.chrony import (
    CONFIGURATION_FILE,
    DEFAULT_POOL,
    PID_FILE,
    arguments,
    configuration,
)
from metropolis.node.clock.start import Source, encode_saved, read_saved
from metropolis.node.network.status import NetworkStatus
from metropolis.node.storage import CLOCK, NodeStorage
from metropolis.supervision import Context, RestartRequestedError, Value
from metropolis.supervision.process import run_process

CHRONYD: Final = "/usr/sbin/chronyd"
USER: Final = "_chrony"
SAVE_S: Final = 3600.0  # the ESP is a FAT file system, often on flash: it is spared
LOOK_S: Final = 15.0  # how soon it is noticed that the clock became right
_FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEdges:
    """What keeping the time works on.

    Attributes:
        run: A directory that is gone at the next start: chronyd's configuration goes there.
        network: Says which time servers the network recommends.
        pools: Names of pools, for networks that recommend none.
        start: Who was believed when the clock started, see `start_clock`.
        user: chronyd becomes this user once it is set up.
        sets_clock: False where the clock is not ours to set: a machine that shares it.
    """

    clock: Clock
    setting: ClockSetting
    storage: NodeStorage
    run: Directory
    processes: Processes
    network: Value[NetworkStatus | None]
    start: Source = Source.HARDWARE
    pools: Sequence[str] = (DEFAULT_POOL,)
    program: str = CHRONYD
    user: str = USER
    sets_clock: bool = True


async def time(ctx: Context, *, edges: TimeEdges) -> None:
    """Keep the clock right."""
    ctx.run("keeper", partial(keeper, edges=edges))
    ctx.run("chrony", partial(chrony, edges=edges))
    ctx.healthy()
    await ctx.wait_cancelled()


async def chrony(ctx: Context, *, edges: TimeEdges) -> None:
    """Run chronyd with the servers of the network; begin anew when those change."""
    watcher = edges.network.watch()
    status = await watcher.wait_for(lambda found: found is not None)
    assert status is not None
    servers = tuple(status.time_servers)
    text = configuration(servers=servers, pools=edges.pools, pid_path=edges.run.absolute(PID_FILE))
    await edges.run.remove(PID_FILE)  # of one that was killed: its number may be another's now
    await edges.run.write(CONFIGURATION_FILE, text.encode("ascii"), mode=_FILE_MODE)
    argv = arguments(
        edges.program,
        path=edges.run.absolute(CONFIGURATION_FILE),
        user=edges.user,
        sets_clock=edges.sets_clock,
    )
    ctx.log.info("Time servers: %s", ", ".join(servers or edges.pools))
    ctx.run("chronyd", run_process(ProcessSpec(argv=argv), processes=edges.processes, probe=None))
    ctx.healthy()
    await watcher.wait_for(lambda found: found is not None and tuple(found.time_servers) != servers)
    raise RestartRequestedError("the network recommends other time servers")


async def keeper(ctx: Context, *, edges: TimeEdges) -> None:
    """Save the time when it becomes right, every hour, and at the end."""
    ctx.healthy()
    saved_s: float | None = None
    was_right = False
    try:
        while True:
            now_s = edges.clock.monotonic_s()
            is_right = edges.setting.is_synchronised()
            is_due = saved_s is None or now_s - saved_s >= SAVE_S
            if (is_due or (is_right and not was_right)) and await save_time(ctx, edges):
                saved_s = now_s
            was_right = is_right
            await asyncio.sleep(LOOK_S)
    finally:
        await save_time(ctx, edges)


async def save_time(ctx: Context, edges: TimeEdges) -> bool:
    """Save the time if it is worth it; tell whether it was.

    A time that chrony vouches for is, even if it is before the saved one. Otherwise a clock that
    started from the hardware clock is not: that one runs on by itself, and if it is wrong its
    error must not outlive its repair.
    """
    wall = edges.clock.wall()
    if not edges.setting.is_synchronised():
        if edges.start is Source.HARDWARE:
            return False
        saved = await read_saved(edges.storage)
        if saved is not None and saved >= wall:
            return False
    try:
        await edges.storage.write(CLOCK, encode_saved(wall))
    except (MetropolisError, OSError) as error:
        ctx.log.warning("Cannot save the time: %s", error)
        return False
    return True
