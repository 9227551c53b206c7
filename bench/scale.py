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
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import uvloop

from bench.__main__ import Figures, is_met
from bench.scale_cluster import CA, FIRST_NODE, credentials, node_id, owner
from metropolis.api.curator_pb2 import WatchEvent, WatchRequest
from metropolis.api.management_pb2 import GetNodesRequest, Node, UpdateNodeRolesRequest
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management
from metropolis.base.errors import MetropolisError
from metropolis.host.linux.open_files import allow_open_files
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.transport import Endpoint

ROOT: Final = Path(__file__).resolve().parent.parent
BUDGET_S: Final = 345
NODES: Final = 10_000
FEW: Final = 100
INTERVAL_S: Final = 5.0  # between two beats of a node
BEATS_PER_S: Final = NODES / INTERVAL_S  # of few nodes, too, so that costs compare
STEADY_S: Final = 6.0
ROUNDS: Final = 5
FLEETS: Final = 2
CHANGES: Final = 200
WATCHED: Final = 40
SETTLE_S_MAX: Final = 60.0
FILTER: Final = (
    "node.state == NODE_STATE_UP && has(node.roles.kubernetes_worker) && "
    'node.labels.pairs[0].value == "rack-7"'
)
EVERYTHING: Final = (
    "node.state == NODE_STATE_UP && has(node.roles.kubernetes_worker) && "
    "node.health != HEALTH_INVALID"
)


class Process:
    """A process that answers lines with lines."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout
        self.pid = self._process.pid

    def read(self) -> list[str]:
        """Return the words of the next answer."""
        line = self._answers.readline()
        assert line, "a process of the benchmark has ended"
        return line.split()

    def ask(self, question: str) -> list[str]:
        """Ask, and return the words of the answer."""
        self._questions.write(question + "\n")
        self._questions.flush()
        return self.read()

    def end(self) -> None:
        """Let it end by itself, or kill it."""
        self._questions.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


@dataclass(slots=True, kw_only=True)
class Bench:
    """A site with some nodes, and the fleets that play them."""

    site: Process
    fleets: list[Process]
    nodes: int
    endpoints: list[Endpoint]

    def cpu_s(self) -> float:
        return float(self.site.ask("figures")[0])

    def resident_kib(self) -> float:
        return float(self.site.ask("memory")[0])

    def worst_pause_ms(self) -> float:
        return float(self.site.ask("figures")[1]) * 1e3

    def fleet_status(self) -> tuple[int, int, int]:
        """Return how many nodes beat and watch, and how many beats were answered."""
        answers = [fleet.ask("status") for fleet in self.fleets]
        beating, watching, answered = (
            sum(int(each[column]) for each in answers) for column in range(3)
        )
        return beating, watching, answered

    def set_interval(self, interval_s: float) -> None:
        """Let every node beat so often; 0: not at all."""
        for fleet in self.fleets:
            fleet.ask(f"interval {interval_s}")

    def wait_settled(self, limit_s: float) -> float:
        """Wait until every node beats and watches; return how long that took."""
        started_s = time.monotonic()
        while True:
            beating, watching, _ = self.fleet_status()
            waited_s = time.monotonic() - started_s
            if (beating, watching) == (self.nodes, self.nodes):
                return waited_s
            if waited_s > limit_s:
                print(f"  only {beating} beat, {watching} watch", file=sys.stderr, flush=True)
                return float("inf")
            time.sleep(0.25)
            if int(waited_s / 10) != int((waited_s + 0.25) / 10):
                print(f"  {beating} beat, {watching} watch", file=sys.stderr, flush=True)

    def wait_back(self, limit_s: float) -> float:
        """Wait until nodes notice that their leader is gone, then until all are back."""
        started_s = time.monotonic()
        while self.fleet_status()[0] == self.nodes and time.monotonic() < started_s + limit_s:
            time.sleep(0.01)
        noticed_s = time.monotonic() - started_s
        return noticed_s + self.wait_settled(limit_s)

    def start_fleets(self, interval_s: float, warm_up_s: float) -> None:
        """Bring the nodes up."""
        share = self.nodes // FLEETS
        for number in range(FLEETS):
            first = FIRST_NODE + number * share
            last = FIRST_NODE + self.nodes if number == FLEETS - 1 else first + share
            ports = [endpoint.tcp_port for endpoint in self.endpoints]
            fleet = Process("scale_fleet", first, last, self.nodes, interval_s, warm_up_s, *ports)
            self.fleets.append(fleet)
        for fleet in self.fleets:
            fleet.read()
        for fleet in self.fleets:
            fleet.ask("play")

    def dial(self, endpoint: Endpoint, seed: int | None = None) -> Channel:
        """Connect as the owner, or as a node."""
        return GrpcTransport(connect_s=60).dial(
            endpoint,
            credentials=owner() if seed is None else credentials(seed),
            verify=server_verifier(CA.certificate),
        )


@contextmanager
def bench_of(nodes: int) -> Iterator[Bench]:
    """Run a site that knows so many nodes."""
    endpoints = [Endpoint("127.0.0.1", port) for port in _free_ports(2)]
    site = Process("scale_site", nodes, *(endpoint.tcp_port for endpoint in endpoints))
    bench = Bench(site=site, fleets=[], nodes=nodes, endpoints=endpoints)
    try:
        assert site.read() == ["ready"]
        yield bench
    finally:
        for process in (*bench.fleets, site):
            process.end()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


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
    for _ in range(3):
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


async def _storm(bench: Bench) -> tuple[float, int, int]:
    """Let the leader die, and look at the nodes until they have found the next one.

    Returns the seconds until all beat again, how many nodes were ever said to be silent, and how
    many are healthy in the end.
    """
    operator = bench.dial(bench.endpoints[1])
    false: dict[str, None] = {}
    done = asyncio.Event()
    healthy = 0

    async def look() -> None:
        nonlocal healthy
        while not done.is_set():
            try:
                found = await list_nodes(operator, "")
            except MetropolisError:
                await asyncio.sleep(0.5)
                continue
            healthy = sum(node.health == Node.HEALTH_HEALTHY for node in found)
            false.update(
                (node.id, None) for node in found if node.health == Node.HEALTH_HEARTBEAT_TIMEOUT
            )
            await asyncio.sleep(2.0)

    bench.site.ask("fail")
    looking = asyncio.create_task(look())
    settled_s = await asyncio.to_thread(bench.wait_back, SETTLE_S_MAX)
    await asyncio.sleep(3.0)
    done.set()
    await looking
    await operator.close()
    return settled_s, len(false.keys() - {node_id(10), node_id(11)}), healthy


def measure(nodes: int, figures: Figures) -> None:
    """Note name -> (value, unit, target), as soon as they are known."""
    with bench_of(0) as empty:
        empty_kib = empty.resident_kib()
    print(f"bench: {FEW} nodes …", file=sys.stderr, flush=True)
    with bench_of(FEW) as bench:
        few_reads = uvloop.run(_reads(bench))
        bench.start_fleets(INTERVAL_S * FEW / NODES, 1.0)
        bench.wait_settled(30)
        few_us = _steady_us(bench)
    print(f"bench: {nodes} nodes …", file=sys.stderr, flush=True)
    with bench_of(nodes) as bench:
        reads = uvloop.run(_reads(bench))
        for (name, (cpu, wait)), target in zip(reads.items(), (150.0, 600.0, 400.0), strict=True):
            figures[f"{name}: CPU"] = (cpu, "ms", target)
            figures[f"{name}: wait"] = (wait, "ms", None)
            per_node = cpu / nodes / (few_reads[name][0] / FEW)
            figures[f"{name}: per node, against {FEW} nodes"] = (per_node, "times", 1.5)
        known_kib = bench.resident_kib()
        before_s = bench.cpu_s()
        bench.start_fleets(INTERVAL_S * nodes / NODES, nodes / 250)
        came_s = bench.wait_settled(120)
        cpu_ms = (bench.cpu_s() - before_s) / nodes * 1e3
        held_kib = bench.resident_kib()
        figures["node known"] = ((known_kib - empty_kib) / nodes, "KiB/node", 20.0)
        figures["connection with a beat and a watch"] = (
            (held_kib - known_kib) / nodes,
            "KiB/node",
            None,
        )
        figures["first connections: CPU"] = (cpu_ms, "ms/node", None)
        figures["first connections: time"] = (came_s, "s", None)
        many_us = _steady_us(bench)
        figures["heartbeats: one core"] = (many_us * BEATS_PER_S / 1e4, "%", 25.0)
        figures["heartbeat: CPU"] = (many_us, "us", None)
        figures[f"heartbeat: against {FEW} nodes"] = (many_us / few_us, "times", 1.5)
        changes = uvloop.run(_role_changes(bench))
        figures["role change to node, p50"] = (changes[len(changes) // 2], "ms", None)
        figures["role change to node, p99"] = (changes[len(changes) * 99 // 100], "ms", 50.0)
        bench.set_interval(INTERVAL_S)
        settled_s, false, healthy = uvloop.run(_storm(bench))
        figures["storm: settled"] = (settled_s, "s", 30.0)
        figures["storm: false HEARTBEAT_TIMEOUT"] = (false, "nodes", 0)
        figures["storm: healthy in the end"] = (healthy, "nodes", None)
        figures["garbage collector: longest pause"] = (bench.worst_pause_ms(), "ms", None)


def main(arguments: Sequence[str]) -> int:
    """Print the table and write it down; the exit status is 0 even when a target is missed."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(BUDGET_S)
    allow_open_files()
    nodes = int(arguments[0]) if arguments else NODES
    started_s = time.monotonic()
    figures: Figures = {}
    try:
        measure(nodes, figures)
    except TimeoutError as error:
        print(f"bench: {error}; the rest is missing", file=sys.stderr)
    print(f"{'FIGURE':<52} {'VALUE':>12} {'UNIT':<9} {'TARGET':>8}")
    marks = {True: "met", False: "MISSED", None: ""}
    for name, (value, unit, target) in figures.items():
        bound = "" if target is None else f"{target:g}"
        mark = marks[is_met(value, unit, target)]
        print(f"{name:<52} {value:>12,.2f} {unit:<9} {bound:>8} {mark}".rstrip())
    print(f"bench: {time.monotonic() - started_s:.0f} s, load {os.getloadavg()[0]:.1f}")
    output = ROOT / "build" / "bench-scale.json"
    output.parent.mkdir(exist_ok=True)
    rows = {
        name: {"value": value, "unit": unit, "target": target}
        for name, (value, unit, target) in figures.items()
    }
    output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _give_up(_number: int, _frame: object) -> None:
    raise TimeoutError(f"the benchmark took more than {BUDGET_S} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
