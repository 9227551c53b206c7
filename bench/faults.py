# SPDX-License-Identifier: Apache-2.0
"""`make bench-faults`: the longest time a client could not write (pMax), for each kind of fault.

Three real nodes on this computer, one client that writes every 50 ms and repeats what failed. pMax
is the longest time between two acknowledged writes, from before a fault until 20 writes after its
repair. After every fault all acknowledged writes must be there, or the run ends with LOST.

Disks are tmpfs, so that they can be full. A slow disk is an etcd that is stopped for 1.8 s of every
2 s, which is what its peers and clients see of a disk that stalls. Needs root; about six minutes.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import uvloop

from bench._faultsite import NODES, SETTLED_WRITES, FaultSite, Writer

OUTPUT = Path(__file__).resolve().parent.parent / "build" / "bench-faults.json"
FAULT_S = 15.0
PAUSE_S = 30.0
REPAIRED_S = 90.0  # within which writes go on after the repair

Scenario = Callable[[FaultSite, Writer, int], Awaitable[str]]


class NotPossibleError(Exception):
    """This kernel, or this computer, cannot do that. The text says why."""


def _others(leader: int) -> list[int]:
    return [number for number in range(NODES) if number != leader]


async def crash(site: FaultSite, writer: Writer, leader: int) -> str:
    """Cut the leader's power."""
    await site.cluster.power(leader, "kill")
    await writer.wait_writes(SETTLED_WRITES, within_s=REPAIRED_S)
    await site.cluster.power(leader, "on")
    return ""


async def pause(site: FaultSite, writer: Writer, leader: int) -> str:
    """Stop every process of the leader's machine for 30 s, then ask it to write at once."""
    processes = site.faults.processes(leader)
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    await asyncio.sleep(PAUSE_S)
    before = writer.count
    for each in reversed(processes):
        os.kill(each, signal.SIGCONT)
    refusal = await site.write_at(leader)
    if not refusal:
        raise SystemExit("UNFENCED: a leader that was stopped for 30 s accepted a write")
    return f"fenced ({refusal}); {before} writes went on meanwhile"


async def split_leader(site: FaultSite, _writer: Writer, leader: int) -> str:
    """Cut the leader off from both others."""
    await site.cluster.split([[leader], _others(leader)])
    await asyncio.sleep(FAULT_S)
    await site.cluster.split([range(NODES)])
    return ""


async def split_all(site: FaultSite, _writer: Writer, _leader: int) -> str:
    """Nobody reaches anybody: there is no majority, so nothing can be written until the repair."""
    await site.cluster.split([[number] for number in range(NODES)])
    await asyncio.sleep(FAULT_S)
    await site.cluster.split([range(NODES)])
    return f"of which {FAULT_S:g} s without any majority"


async def split_partial(site: FaultSite, _writer: Writer, leader: int) -> str:
    """The leader and one other do not reach each other; the third reaches both."""
    other = _others(leader)[0]
    with site.faults.blackhole(leader, [other]), site.faults.blackhole(other, [leader]):
        await asyncio.sleep(FAULT_S)
    return ""


async def one_way_out(site: FaultSite, _writer: Writer, leader: int) -> str:
    """The leader hears the others, and they do not hear it."""
    with site.faults.blackhole(leader, _others(leader)):
        await asyncio.sleep(FAULT_S)
    return ""


async def one_way_in(site: FaultSite, _writer: Writer, leader: int) -> str:
    """The others hear the leader, and it does not hear them."""
    with ExitStack() as stack:
        for other in _others(leader):
            stack.enter_context(site.faults.blackhole(other, [leader]))
        await asyncio.sleep(FAULT_S)
    return ""


async def loss(site: FaultSite, _writer: Writer, leader: int) -> str:
    """Every second frame on the leader's cable is lost, each way."""
    async with site.faults.bad_cable(leader, loss=0.5, delay_s=0.0):
        await asyncio.sleep(2 * FAULT_S)
    return ""


async def delay(site: FaultSite, _writer: Writer, leader: int) -> str:
    """Every frame on the leader's cable takes 1 s, each way."""
    async with site.faults.bad_cable(leader, loss=0.0, delay_s=1.0):
        await asyncio.sleep(2 * FAULT_S)
    return ""


async def slow_disk(site: FaultSite, _writer: Writer, leader: int) -> str:
    """The leader's etcd stalls for 1.8 s of every 2 s."""
    async with site.faults.slow_disk(leader):
        await asyncio.sleep(2 * FAULT_S)
    return "an approximation: its etcd is stopped and continued"


async def full_disk(site: FaultSite, _writer: Writer, leader: int) -> str:
    """No byte is free on the leader's disk."""
    async with site.faults.full_disk(leader):
        await asyncio.sleep(2 * FAULT_S)
    return ""


async def full_disks(site: FaultSite, writer: Writer, _leader: int) -> str:
    """No byte is free on any disk."""
    async with AsyncExitStack() as stack:
        for number in range(NODES):
            await stack.enter_async_context(site.faults.full_disk(number))
        before = writer.count
        await asyncio.sleep(2 * FAULT_S)
    return f"{writer.count - before} writes meanwhile, into what etcd had allocated"


async def clock_step(_site: FaultSite, _writer: Writer, _leader: int) -> str:
    """Steps of one hour."""
    raise NotPossibleError(
        "CLOCK_REALTIME has no namespace; tests/sim/node/test_scenarios.py steps simulated ones"
    )


SCENARIOS: dict[str, Scenario] = {
    "crash of the leader": crash,
    "leader stopped for 30 s": pause,
    "split: leader against two": split_leader,
    "split: everybody alone for 15 s": split_all,
    "split: leader and one other": split_partial,
    "one-way: leader is not heard": one_way_out,
    "one-way: leader does not hear": one_way_in,
    "50 % loss on the leader's cable": loss,
    "1 s delay on the leader's cable": delay,
    "slow disk of the leader": slow_disk,
    "full disk of the leader": full_disk,
    "all disks full": full_disks,
    "clock steps of 1 h": clock_step,
}

Row = dict[str, str | float | int | None]


async def run(names: Sequence[str]) -> dict[str, Row]:
    """Break a cluster in every way."""
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="metropolis-faults-") as path:
        site = FaultSite(Path(path))
        try:
            await site.launch()
            for name in names:
                rows[name] = await _measure(site, SCENARIOS[name])
                print(_line(name, rows[name]), flush=True)
        finally:
            await site.destroy()
    return rows


async def _measure(site: FaultSite, scenario: Scenario) -> Row:
    await site.calm()
    leader = await site.leader()
    async with site.writing() as writer:
        try:
            said = await scenario(site, writer, leader)
        except NotPossibleError as error:
            return _impossible(str(error))
        except subprocess.CalledProcessError as error:  # `ip` says what the kernel lacks
            return _impossible(str(error.stderr).strip())
        repaired_s = time.monotonic()
        await writer.wait_writes(SETTLED_WRITES, within_s=REPAIRED_S)
        settled_s = time.monotonic() - repaired_s
    return {
        "pmax_s": round(writer.longest_s, 2),
        "writes": writer.count,
        "refused": writer.refused,
        "settled_s": round(settled_s, 2),
        "note": said,
    }


def _impossible(why: str) -> Row:
    return {"pmax_s": None, "note": f"not possible on this kernel: {why}"}


def _line(name: str, row: Row) -> str:
    pmax_s = row["pmax_s"]
    shown = "-" if pmax_s is None else f"{pmax_s:.1f} s"
    return f"{name:<34} {shown:>8}  {row['note']}".rstrip()


def main(arguments: Sequence[str]) -> int:
    """Print a table; write build/bench-faults.json."""
    if os.geteuid() != 0:
        print("error: machines need root", file=sys.stderr)
        print("remedy: run it with sudo", file=sys.stderr)
        return 1
    names = list(arguments) or list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        print(f"error: no fault is called {', '.join(unknown)}", file=sys.stderr)
        print(f"remedy: choose from {'; '.join(SCENARIOS)}", file=sys.stderr)
        return 1
    print(f"{'FAULT':<34} {'PMAX':>8}  NOTE", flush=True)
    rows = uvloop.run(run(names))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
