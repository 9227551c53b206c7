# SPDX-License-Identifier: Apache-2.0
"""The processes of `make bench-scale`: a site, the fleets, and how long they take for what."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, NamedTuple

from bench.__main__ import OUTPUT
from bench.scale_cluster import CA, FIRST_NODE, credentials, owner
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.transport import Endpoint

ROOT: Final = OUTPUT.parent.parent
FLEETS: Final = 2
TELL_S: Final = 10.0  # between two lines about who is there


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


class Figures(NamedTuple):
    """What a site tells of itself.

    Attributes:
        cpu_s: CPU time it has used.
        pause_s: CPU time of the longest run of its garbage collector.
        turn_s: CPU time of the longest turn of its event loop.
        tenures: How often a control plane began to lead.
    """

    cpu_s: float
    pause_s: float
    turn_s: float
    tenures: float


@dataclass(slots=True, kw_only=True)
class Bench:
    """A site with some nodes, and the fleets that play them."""

    site: Process
    fleets: list[Process]
    nodes: int
    endpoints: list[Endpoint]
    pause_s: float = 0.0  # the longest so far
    turn_s: float = 0.0

    def figures(self) -> "Figures":
        """Return what the site tells of itself; of pauses and turns since the last question."""
        return Figures(*map(float, self.site.ask("figures")))

    def cpu_s(self) -> float:
        """Return the CPU time that the site has used."""
        figures = self.figures()
        self.pause_s = max(self.pause_s, figures.pause_s)
        self.turn_s = max(self.turn_s, figures.turn_s)
        return figures.cpu_s

    def fleet_cpu_s(self) -> float:
        """Return the CPU time that all nodes have used."""
        return sum(float(fleet.ask("status")[3]) for fleet in self.fleets)

    def resident_kib(self) -> float:
        """Return the memory that the site holds."""
        return float(self.site.ask("memory")[0])

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
        started_s, told_s = time.monotonic(), 0.0
        while True:
            beating, watching, _ = self.fleet_status()
            waited_s = time.monotonic() - started_s
            if (beating, watching) == (self.nodes, self.nodes):
                return waited_s
            if waited_s > limit_s:
                print(f"  only {beating} beat, {watching} watch", file=sys.stderr, flush=True)
                return float("inf")
            time.sleep(0.25)
            if waited_s >= told_s + TELL_S:
                told_s = waited_s
                print(f"  {beating} beat, {watching} watch", file=sys.stderr, flush=True)

    def wait_noticed(self, limit_s: float) -> None:
        """Wait until the first node notices that its leader is gone."""
        started_s = time.monotonic()
        while self.fleet_status()[0] == self.nodes and time.monotonic() < started_s + limit_s:
            time.sleep(0.01)

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
