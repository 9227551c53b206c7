# SPDX-License-Identifier: Apache-2.0
"""A seed names one run, whatever the process, its memory layout or its hash seed."""

import os
import subprocess
import sys

import pytest

SCENARIO = """
import sys
pad = [bytearray(i % 700) for i in range(int(sys.argv[1]))]  # shifts every later address
import asyncio
from metropolis.sim import Trace, note, simulate

async def leaf(name):
    gate = asyncio.Event()
    try:
        await asyncio.shield(gate.wait()) if name[1] == 3 else await gate.wait()
    finally:
        note(str(name))
        await asyncio.sleep(0)

async def branch(name):
    async with asyncio.TaskGroup() as tasks:
        for i in range(7):
            tasks.create_task(leaf((name, i)))

async def forgotten():
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            note("generator closed")
    async for _ in numbers():
        break

async def main():
    loop = asyncio.get_running_loop()
    futures = {loop.create_future() for _ in range(50)}
    for future in futures:
        future.add_done_callback(lambda done: note(f"future {done.age}"))
    for future in futures:  # in the order of their addresses
        future.cancel()
    async def run():
        async with asyncio.TaskGroup() as tasks:
            for i in range(40):
                tasks.create_task(branch(i))
            await asyncio.sleep(2)
            raise KeyError("enough")
    for _ in range(200):
        await forgotten()
    try:
        await run()
    except* KeyError:
        pass
    for task in loop.pending():  # shielded leaves outlive their cancelled shells
        if task is not asyncio.current_task():
            task.cancel()
    await asyncio.sleep(1)

trace = Trace()
simulate(main, seed=int(sys.argv[2]), trace=trace)
print(trace.steps, trace.hexdigest())
"""


def run(*, pad: int, seed: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", SCENARIO, str(pad), str(seed)],
        env={**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": str(pad)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_seed_has_one_trace_hash_in_every_process(seed: int) -> None:
    assert len({run(pad=pad, seed=seed) for pad in (0, 17, 1000, 12345)}) == 1


def test_another_seed_is_another_run() -> None:
    assert len({run(pad=0, seed=seed) for seed in range(3)}) == 3
