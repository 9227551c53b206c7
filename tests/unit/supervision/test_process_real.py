# SPDX-License-Identifier: Apache-2.0
"""The same runnable over real programs: nothing of a process group survives its runnable."""

import asyncio
import os
import select
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import uvloop

from metropolis.host import ProcessSpec
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.supervision import (
    Context,
    LogTree,
    Missed,
    RawEntry,
    ReadOptions,
    Runnable,
    Supervisor,
)
from metropolis.supervision.process import run_process

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def is_killed(pid: int) -> bool:
    """Wait for the end of a process that was sent SIGKILL: the kernel takes its time for that."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 10)[0])
    finally:
        os.close(process)


async def lines_of(program: Runnable, *, count: int) -> list[bytes]:
    """Run a program in a tree until it has printed `count` lines, then stop it."""
    clock = LinuxClock()
    log_tree = LogTree(clock=clock)
    reader = log_tree.read("root", ReadOptions(stream=True, with_children=True, only_raw=True))

    async def root(ctx: Context) -> None:
        ctx.run("program", program)
        ctx.healthy()
        await ctx.wait_cancelled()

    lines: list[bytes] = []
    async with asyncio.TaskGroup() as tasks:
        tree = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(1))
        running = tasks.create_task(tree.run())
        while len(lines) < count:
            entry = await reader.receive()
            assert not isinstance(entry, Missed)
            assert isinstance(entry, RawEntry)
            lines.append(entry.data)
        running.cancel()
    return lines


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_a_program_and_its_children_are_gone_after_the_runnable(
    new_loop: type[asyncio.AbstractEventLoop], trap: str
) -> None:
    script = f"{trap}sleep 1000 & echo $!; echo $$; echo ready; while :; do wait; done"
    spec = ProcessSpec(argv=["/bin/sh", "-c", script], environment={"PATH": os.environ["PATH"]})

    async def main() -> list[bytes]:
        program = run_process(spec, processes=LinuxProcesses(), probe=None, grace_s=0.1)
        return await lines_of(program, count=3)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        child, shell, ready = runner.run(main())
    assert ready == b"ready"
    assert is_killed(int(child))
    assert not is_alive(int(shell))
    with pytest.raises(ProcessLookupError):
        os.kill(int(shell), 0)  # reaped, not a zombie
