# SPDX-License-Identifier: Apache-2.0
"""`make bench-scale`: 10,000 nodes, each with a TLS connection, against one control plane.

The site (`scale_site`), two fleets (`scale_fleet`) and this operator are processes of their own.
Costs are CPU time of the site, so that other work on the machine does not count; waits are the
best of several, for the same reason. Ends by itself, after `BUDGET_S` at the latest.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.__main__ import Figures, is_met
from bench.scale_cluster import FIRST_NODE, MEMBERS, node_id
from bench.scale_processes import ROOT, Bench, bench_of
from metropolis.api.curator_pb2 import WatchEvent, WatchRequest
from metropolis.api.management_pb2 import GetNodesRequest, Node, UpdateNodeRolesRequest
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management
from metropolis.base.errors import UnavailableError
from metropolis.host.linux.open_files import allow_open_files
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint

BUDGET_S: Final = 345
NODES: Final = 10_000
FEW: Final = 100
INTERVAL_S: Final = 5.0  # between two beats of a node
BEATS_PER_S: Final = NODES / INTERVAL_S  # of few nodes, too, so that costs compare
STEADY_S: Final = 3.0
STRETCHES: Final = 6
ROUNDS: Final = 5
CHANGES: Final = 200
WATCHED: Final = 40
ARRIVE_PER_S: Final = 400
ARRIVE_S_MAX: Final = 120.0
SETTLE_S_MAX: Final = 60.0
BUSY: Final = "machine that others got"
BUSY_PERCENT: Final = 20.0  # from which on waits say little
LOOK_S: Final = 4.0  # between questions about who is silent
FILTER: Final = (
    "node.state == NODE_STATE_UP && has(node.roles.kubernetes_worker) && "
    'node.labels.pairs[0].value == "rack-7"'
)
EVERYTHING: Final = (
    "node.state == NODE_STATE_UP && has(node.roles.kubernetes_worker) && "
    "node.health != HEALTH_INVALID"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Few:
    """What a small cluster costs."""

    empty_kib: float  # of a site without nodes
    reads: dict[str, tuple[float, float]]
    beat_us: float


@dataclass(slots=True, kw_only=True)
class Health:
    """What an operator saw: who was ever said to be silent, and how many are healthy now."""

    silent: dict[str, None] = field(default_factory=dict[str, None])
    healthy: int = 0


class Others:
    """How much of the machine other programs use from now on."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._began_s = time.monotonic()
        self._before_s = self._used_s()

    def share(self) -> float:
        """Return it, between 0 and 1: what keeps the benchmark from being as fast as it could."""
        took_s = (time.monotonic() - self._began_s) * (os.cpu_count() or 1)
        return max(0.0, (self._used_s() - self._before_s) / took_s)

    def _used_s(self) -> float:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, first.split()[1:9])
        busy = user + nice + system + irq + softirq + steal
        own_s = time.process_time() + self._bench.cpu_s() + self._bench.fleet_cpu_s()
        return busy / os.sysconf("SC_CLK_TCK") - own_s


async def list_nodes(channel: Channel, condition: str) -> list[Node]:
    """Ask for nodes."""
    found: list[Node] = []
    async with channel.open(Management.GET_NODES) as stream:
        await stream.send(GetNodesRequest(filter=condition))
        while (node := await stream.receive()) is not None:
            found.append(node)
    return found


async def snapshot(channel: Channel) -> int:
    """Watch all nodes until everything that exists was seen; return how many."""
    seen = 0
    request = WatchRequest(nodes_in_cluster=WatchRequest.NodesInCluster())
    async with channel.open(Curator.WATCH) as stream:
        await stream.send(request)
        while (event := await stream.receive()) is not None:
            seen += len(event.nodes)
            if event.progress == WatchEvent.PROGRESS_LAST_BACKLOGGED:
                break
    return seen


async def _reads(bench: Bench) -> dict[str, tuple[float, float]]:
    """Return, by name, the best CPU of the site and the best wait of reads; milliseconds."""
    channel = bench.dial(bench.endpoints[0])
    figures: dict[str, tuple[float, float]] = {}
    for name, question, expected in (
        ("GetNodes of a rack", FILTER, max(1, bench.nodes // 100)),
        ("GetNodes of all", EVERYTHING, None),
        ("Watch snapshot", None, None),
    ):
        cpu_ms, wait_ms = [], []
        for _ in range(ROUNDS + 1):
            gc.collect()
            before_s, started_s = bench.cpu_s(), time.monotonic()
            if question is None:
                count = await snapshot(channel)
            else:
                count = len(await list_nodes(channel, question))
            wait_ms.append((time.monotonic() - started_s) * 1e3)
            cpu_ms.append((bench.cpu_s() - before_s) * 1e3)
            assert count >= bench.nodes if expected is None else count == expected, (name, count)
        figures[name] = (min(cpu_ms[1:]), min(wait_ms[1:]))
    await channel.close()
    return figures


def _steady_us(bench: Bench) -> float:
    """Return the site's CPU per beat while every node beats; the best of several stretches."""
    time.sleep(2)
    costs = []
    for _ in range(STRETCHES):
        before_s, (_, _, before) = bench.cpu_s(), bench.fleet_status()
        time.sleep(STEADY_S)
        spent_s, (_, _, after) = bench.cpu_s() - before_s, bench.fleet_status()
        costs.append(spent_s / max(1, after - before) * 1e6)
        print(f"  {(after - before) / STEADY_S:.0f} beats/s", file=sys.stderr, flush=True)
    return min(costs)


async def _role_changes(bench: Bench) -> Sequence[float]:
    """Return how long role changes took to reach the node, from the call on; milliseconds."""
    seeds = range(FIRST_NODE, FIRST_NODE + WATCHED)
    operator = bench.dial(bench.endpoints[0])
    waits_ms: list[float] = []
    news = {seed: asyncio.Queue[float]() for seed in seeds}

    async def watch(seed: int, channel: Channel) -> None:
        own = WatchRequest.NodeInCluster(node_id=node_id(seed))
        async with channel.open(Curator.WATCH) as stream:
            await stream.send(WatchRequest(node_in_cluster=own))
            while await stream.receive() is not None:
                news[seed].put_nowait(time.monotonic())

    channels = [bench.dial(bench.endpoints[0], seed) for seed in seeds]
    async with asyncio.TaskGroup() as group:
        watches = [
            group.create_task(watch(seed, channel))
            for seed, channel in zip(seeds, channels, strict=True)
        ]
        for seed in seeds:
            await news[seed].get()
        for number in range(CHANGES):
            seed = seeds[number % len(seeds)]
            has_role = number // len(seeds) % 2 == 1
            started_s = time.monotonic()
            request = UpdateNodeRolesRequest(id=node_id(seed), kubernetes_worker=has_role)
            await operator.call(Management.UPDATE_NODE_ROLES, request)
            waits_ms.append((await news[seed].get() - started_s) * 1e3)
        for each in watches:
            each.cancel()
    for channel in (*channels, operator):
        await channel.close()
    return sorted(waits_ms)


async def _look(endpoint: Endpoint, bench: Bench, found: Health, done: asyncio.Event) -> None:
    """Keep asking who is silent, until told to stop; then who is healthy."""
    operator = bench.dial(endpoint)
    members = {node_id(seed) for seed in MEMBERS}
    try:
        while not done.is_set():
            try:
                silent = await list_nodes(operator, "node.health == HEALTH_HEARTBEAT_TIMEOUT")
                found.silent.update((node.id, None) for node in silent if node.id not in members)
                await asyncio.sleep(LOOK_S)
            except UnavailableError:
                await asyncio.sleep(0.5)
        healthy = await list_nodes(operator, "node.health == HEALTH_HEALTHY")
        found.healthy = sum(node.id not in members for node in healthy)
    finally:
        await operator.close()


async def _storm(bench: Bench, figures: Figures) -> None:
    """Let the leader die, and look at the nodes until they have found the next one."""
    found, done = Health(), asyncio.Event()
    failed_s = time.monotonic()
    bench.site.ask("fail")
    looking = asyncio.create_task(_look(bench.endpoints[1], bench, found, done))
    await asyncio.to_thread(bench.wait_noticed, SETTLE_S_MAX)
    before, began_s, others = bench.figures(), time.monotonic(), Others(bench)
    fleet_s, bench.turn_s, bench.pause_s = bench.fleet_cpu_s(), 0.0, 0.0
    is_back = await asyncio.to_thread(bench.wait_settled, SETTLE_S_MAX) < float("inf")
    spent_s, took_s = bench.cpu_s() - before.cpu_s, time.monotonic() - began_s
    settled_s = time.monotonic() - failed_s if is_back else float("inf")
    back = min(bench.fleet_status()[:2])
    figures["storm: settled"] = (settled_s, "s", 30.0)
    figures["storm: back"] = (back, "nodes", None)
    figures["storm: CPU of the site"] = (spent_s / max(1, back) * 1e3, "ms/node", None)
    figures["storm: core that the site got"] = (spent_s / took_s * 100, "%", None)
    figures["storm: machine that others got"] = (others.share() * 100, "%", None)
    fleet_ms = (bench.fleet_cpu_s() - fleet_s) / max(1, back) * 1e3
    figures["storm: CPU of the fleets"] = (fleet_ms, "ms/node", None)
    figures["storm: longest turn of the loop"] = (bench.turn_s * 1e3, "ms", None)
    figures["storm: longest garbage collection"] = (bench.pause_s * 1e3, "ms", None)
    await asyncio.sleep(LOOK_S)
    done.set()
    await looking
    figures["storm: false HEARTBEAT_TIMEOUT"] = (len(found.silent), "nodes", 0)
    figures["storm: healthy in the end"] = (found.healthy, "nodes", None)
    figures["tenures, of which one was asked for"] = (bench.figures().tenures, "", 2)


def _few(figures: Figures) -> "Few":
    """Measure what a small cluster costs, to compare with."""
    with bench_of(0) as empty:
        empty_kib = empty.resident_kib()
    print(f"bench: {FEW} nodes …", file=sys.stderr, flush=True)
    with bench_of(FEW) as bench:
        reads = uvloop.run(_reads(bench))
        bench.start_fleets(INTERVAL_S * FEW / NODES, 1.0)
        bench.wait_settled(30)
        few = Few(empty_kib=empty_kib, reads=reads, beat_us=_steady_us(bench))
    figures[f"heartbeat of {FEW} nodes: CPU"] = (few.beat_us, "us", None)
    return few


def _note_reads(bench: Bench, few: "Few", figures: Figures) -> None:
    reads = uvloop.run(_reads(bench))
    for (name, (cpu, wait)), target in zip(reads.items(), (150.0, 600.0, 400.0), strict=True):
        figures[f"{name}: CPU"] = (cpu, "ms", target)
        figures[f"{name}: wait"] = (wait, "ms", None)
        per_node = cpu / bench.nodes / (few.reads[name][0] / FEW)
        figures[f"{name}: per node, against {FEW} nodes"] = (per_node, "times", 1.5)


def _note_arrival(bench: Bench, few: "Few", figures: Figures) -> None:
    known_kib = bench.resident_kib()
    figures["node known"] = ((known_kib - few.empty_kib) / bench.nodes, "KiB/node", 20.0)
    before_s = bench.cpu_s()
    bench.start_fleets(INTERVAL_S * bench.nodes / NODES, bench.nodes / ARRIVE_PER_S)
    came_s = bench.wait_settled(ARRIVE_S_MAX)
    cpu_ms = (bench.cpu_s() - before_s) / bench.nodes * 1e3
    held_kib = (bench.resident_kib() - known_kib) / bench.nodes
    figures["connection with a beat and a watch"] = (held_kib, "KiB/node", None)
    figures["first connections: CPU"] = (cpu_ms, "ms/node", None)
    figures["first connections: time"] = (came_s, "s", None)


def measure(nodes: int, figures: Figures) -> None:
    """Note name -> (value, unit, target), as soon as they are known."""
    few = _few(figures)
    print(f"bench: {nodes} nodes …", file=sys.stderr, flush=True)
    with bench_of(nodes) as bench:
        others = Others(bench)
        _note_reads(bench, few, figures)
        _note_arrival(bench, few, figures)
        many_us = _steady_us(bench)
        figures["heartbeats: one core"] = (many_us * BEATS_PER_S / 1e4, "%", 25.0)
        figures["heartbeat: CPU"] = (many_us, "us", None)
        figures[f"heartbeat: against {FEW} nodes"] = (many_us / few.beat_us, "times", 1.5)
        changes = uvloop.run(_role_changes(bench))
        figures["role change to node, p50"] = (changes[len(changes) // 2], "ms", None)
        figures["role change to node, p99"] = (changes[len(changes) * 99 // 100], "ms", 50.0)
        figures[BUSY] = (others.share() * 100, "%", None)
        figures["longest turn of the loop until here"] = (bench.turn_s * 1e3, "ms", None)
        figures["longest garbage collection until here"] = (bench.pause_s * 1e3, "ms", None)
        bench.set_interval(INTERVAL_S)
        uvloop.run(_storm(bench, figures))


def main(arguments: Sequence[str]) -> int:
    """Print the table and write it down; the exit status is 0 even when a target is missed."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(BUDGET_S)
    allow_open_files()
    nodes = int(arguments[0]) if arguments else NODES
    started_s = time.monotonic()
    figures: Figures = {}
    problem = ""
    try:
        measure(nodes, figures)
    except Exception as error:  # noqa: BLE001 - what is known is worth telling, whatever else goes wrong
        problem = repr(error)
        print(f"bench: {problem}; the rest is missing", file=sys.stderr)
    finally:
        signal.alarm(0)
    print(f"{'FIGURE':<52} {'VALUE':>12} {'UNIT':<9} {'TARGET':>8}")
    is_busy = figures.get(BUSY, (0.0,))[0] > BUSY_PERCENT
    for name, (value, unit, target) in figures.items():
        bound = "" if target is None else f"{target:g}"
        met = is_met(value, unit, target)
        mark = "" if met is None else "met" if met else "MISSED"
        if met is False and is_busy and unit in {"s", "ms"} and not name.endswith("CPU"):
            mark += ", on a machine that was busy with other things"
        print(f"{name:<52} {value:>12,.2f} {unit:<9} {bound:>8} {mark}".rstrip())
    print(f"bench: {time.monotonic() - started_s:.0f} s, load {os.getloadavg()[0]:.1f}")
    output = ROOT / "build" / "bench-scale.json"
    output.parent.mkdir(exist_ok=True)
    rows: dict[str, object] = {
        name: {"value": value, "unit": unit, "target": target, "met": is_met(value, unit, target)}
        for name, (value, unit, target) in figures.items()
    }
    rows["problem"] = problem
    output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _give_up(_number: int, _frame: object) -> None:
    raise TimeoutError(f"the benchmark took more than {BUDGET_S} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
