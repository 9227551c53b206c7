# SPDX-License-Identifier: Apache-2.0
"""A process that plays many nodes; `scale_node` says what each of them does.

Every node dials from a loopback address of its own, and comes back as nodes do: spread over the
time that the next leader needs for all of them, then after waits that grow. Reads lines, and
answers:

    status       how many beat now, how many watch, how many beats were answered, CPU seconds
    interval S   beats every so many seconds from now on
    worst        the longest time an answer took since the last question
"""

import asyncio
import resource
import socket
import sys
from dataclasses import dataclass
from functools import cache
from random import Random

import uvloop

from bench.scale_cluster import CA, FIRST_NODE, credentials
from bench.scale_node import Line, Phrases, Tally
from metropolis.host.linux.collector import calm_collector
from metropolis.host.linux.open_files import allow_open_files
from metropolis.pki.identity import server_verifier
from metropolis.rpc.backoff import Backoff
from metropolis.rpc.grpc.transport import CONNECT_S
from metropolis.rpc.leader_search import spread_s
from metropolis.rpc.tls import TlsContext, client_context
from metropolis.rpc.transport import Endpoint


@cache
def _verify(certificate: bytes) -> None:
    """Judge a server once for all nodes: what it costs them is not what is measured."""
    server_verifier(CA.certificate)(certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the nodes of this process are given. `crowd`: how many there are in all processes."""

    tally: Tally
    endpoints: list[Endpoint]
    phrases: list[Phrases]
    crowd: int
    warm_up_s: float

    async def live(self, seed: int, context: TlsContext) -> None:
        """Be one node, for ever."""
        draw = Random(seed)
        backoff = Backoff(draw)
        await asyncio.sleep(draw.uniform(0, self.warm_up_s))
        at = 0
        while True:
            line = Line(self.tally, self.phrases[at], seed, draw)
            try:
                await _connect(line, self.endpoints[at], context, seed)
                await line.gone
            except OSError as error:  # a time-out, too
                self.tally.note(f"not connected: {error!r}"[:60])
            if line.was_answered:
                backoff.reset()
                await asyncio.sleep(draw.uniform(0, spread_s(self.crowd)))
            else:
                await asyncio.sleep(backoff.next_s())
            at = (at + 1) % len(self.endpoints)


async def _connect(line: Line, endpoint: Endpoint, context: TlsContext, seed: int) -> None:
    """Connect from an address of the node's own, as nodes do."""
    loop = asyncio.get_running_loop()
    number = seed - FIRST_NODE
    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        plug.setblocking(False)
        plug.bind((f"127.1.{number >> 8 & 255}.{number & 255}", 0))
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(plug, (endpoint.host, endpoint.tcp_port))
            await loop.create_connection(lambda: line, sock=plug, ssl=context, server_hostname="")
        if not line.is_made:  # uvloop says so when the peer leaves in the middle
            raise ConnectionResetError("the peer closed the connection during the handshake")
    except OSError:
        plug.close()
        raise


async def _answer(fleet: Fleet, lines: asyncio.StreamReader) -> None:
    tally = fleet.tally
    while line := (await lines.readline()).decode().split():
        match line:
            case ["status"]:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                cpu_s = usage.ru_utime + usage.ru_stime
                print(tally.beating, tally.watching, tally.answered, cpu_s, flush=True)
            case ["interval", text]:
                tally.interval_s = float(text)
                print("done", flush=True)
            case ["worst"]:
                print(tally.worst_s, flush=True)
                tally.worst_s = 0.0
            case _:
                break


async def _play(first: int, last: int, crowd: int, interval_s: float, warm_up_s: float) -> None:
    endpoints = [Endpoint("127.0.0.1", int(port)) for port in sys.argv[6:]]
    fleet = Fleet(
        tally=Tally(interval_s=interval_s, spread_s=spread_s(crowd)),
        endpoints=endpoints,
        phrases=[Phrases(endpoint) for endpoint in endpoints],
        crowd=crowd,
        warm_up_s=warm_up_s,
    )
    contexts = {
        seed: client_context(credentials(seed), verify=_verify) for seed in range(first, last)
    }
    calm_collector()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    print("prepared", flush=True)
    await lines.readline()
    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(fleet.live(seed, contexts[seed])) for seed in contexts]
        print("playing", flush=True)
        await _answer(fleet, lines)
        for problem, count in sorted(fleet.tally.problems.items(), key=lambda each: -each[1])[:6]:
            print(f"fleet: {count} x {problem}", file=sys.stderr)
        for node in nodes:
            node.cancel()


if __name__ == "__main__":
    allow_open_files()
    _first, _last, _crowd = map(int, sys.argv[1:4])
    uvloop.run(_play(_first, _last, _crowd, float(sys.argv[4]), float(sys.argv[5])))
