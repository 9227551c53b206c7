# SPDX-License-Identifier: Apache-2.0
"""A process that plays many nodes: each has a connection, a heartbeat and a watch of itself.

Every node dials from a loopback address of its own. Reads lines, and answers:

    status       how many beat now, how many watch, how many beats were answered
    interval S   beats every so many seconds from now on; 0: not at all
    worst        the longest time a node was without an answer since the last question
"""

import asyncio
import resource
import socket
import sys
from functools import cache
from random import Random
from typing import Final

import uvloop

from bench.scale_cluster import CA, FIRST_NODE, credentials, node_id
from metropolis.api.curator_pb2 import HeartbeatRequest, WatchRequest
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.host.linux.open_files import allow_open_files
from metropolis.pki.identity import server_verifier
from metropolis.rpc.grpc.client import ClientHandler, GrpcChannel
from metropolis.rpc.grpc.wire import Wire
from metropolis.rpc.limits import Limits
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.tls import TlsContext, client_context
from metropolis.rpc.transport import Endpoint

CONNECT_S: Final = 10.0
ANSWER_S: Final = 5.0
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 4.0
CONNECTING_MAX: Final = 64  # at once; more than one core can play would only time out
LIMITS: Final = Limits()


@cache
def _verify(certificate: bytes) -> None:
    """Judge a server once for all nodes: what it costs them is not what is measured."""
    server_verifier(CA.certificate)(certificate)


class Fleet:
    """All nodes of this process."""

    def __init__(self, endpoints: list[Endpoint], interval_s: float, warm_up_s: float) -> None:
        self.endpoints = endpoints
        self.interval_s = interval_s
        self.warm_up_s = warm_up_s
        self.doors = asyncio.Semaphore(CONNECTING_MAX)
        self.resumed = asyncio.Event()
        self.resumed.set()
        self.beating = 0
        self.watching = 0
        self.answered = 0
        self.worst_s = 0.0
        self.problems: dict[str, int] = {}

    async def live(self, seed: int) -> None:
        """Be one node, for ever."""
        draw = Random(seed)
        context = client_context(credentials(seed), verify=_verify)
        await asyncio.sleep(draw.uniform(0, self.warm_up_s))
        leader, retry_s = 0, RETRY_S
        while True:
            endpoint = self.endpoints[leader]
            channel = GrpcChannel(
                lambda endpoint=endpoint: _connect(endpoint, context, seed),  # type: ignore[misc]
                name=str(endpoint),
                scheme="https",
                authority=str(endpoint),
                message_bytes_max=LIMITS.message_bytes,
            )
            before = self.answered
            try:
                async with self.doors:
                    await channel.wire()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._beat(channel, draw))
                    group.create_task(self._watch(channel, seed))
            except* MetropolisError as errors:
                first = str(errors.exceptions[0])[:90]
                self.problems[first] = self.problems.get(first, 0) + 1
            finally:
                await channel.close()
            retry_s = RETRY_S if self.answered > before else min(retry_s * 1.5, RETRY_S_MAX)
            await asyncio.sleep(draw.uniform(0.5, 1.5) * retry_s)
            leader = (leader + 1) % len(self.endpoints)

    async def _beat(self, channel: GrpcChannel, draw: Random) -> None:
        loop = asyncio.get_running_loop()
        is_counted = False
        try:
            async with channel.open(Curator.HEARTBEAT) as stream:
                while True:
                    started_s = loop.time()
                    await stream.send(HeartbeatRequest())
                    async with asyncio.timeout(ANSWER_S if is_counted else CONNECT_S):
                        answer = await stream.receive()
                    if answer is None:
                        raise UnavailableError("the stream ended")
                    self.worst_s = max(self.worst_s, loop.time() - started_s)
                    self.answered += 1
                    if not is_counted:
                        is_counted = True
                        self.beating += 1
                        await asyncio.sleep(draw.uniform(0, self.interval_s))  # spread them
                    await asyncio.sleep(started_s + self.interval_s - loop.time())
                    await self.resumed.wait()
        except TimeoutError as cause:
            raise UnavailableError("no answer to a heartbeat") from cause
        finally:
            self.beating -= is_counted

    async def _watch(self, channel: GrpcChannel, seed: int) -> None:
        own = WatchRequest.NodeInCluster(node_id=node_id(seed))
        is_counted = False
        try:
            async with channel.open(Curator.WATCH) as stream:
                await stream.send(WatchRequest(node_in_cluster=own))
                while await stream.receive() is not None:
                    if not is_counted:
                        is_counted = True
                        self.watching += 1
            raise UnavailableError("the watch ended")
        finally:
            self.watching -= is_counted


async def _connect(endpoint: Endpoint, context: TlsContext, seed: int) -> Wire:
    """Connect from an address of the node's own, as nodes do."""
    wire = Wire(ClientHandler(), is_client=True, limits=LIMITS)
    loop = asyncio.get_running_loop()
    number = seed - FIRST_NODE
    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        plug.setblocking(False)
        plug.bind((f"127.1.{number >> 8 & 255}.{number & 255}", 0))
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(plug, (endpoint.host, endpoint.tcp_port))
            await loop.create_connection(lambda: wire, sock=plug, ssl=context, server_hostname="")
        if not wire.is_made:
            raise ConnectionResetError("the peer closed the connection during the handshake")
    except OSError as error:  # a time-out, too
        plug.close()
        raise NotReachedError(f"cannot reach {endpoint}: {error!r}") from error
    wire.keep_alive(10.0, 5.0)
    return wire


async def _play(first: int, last: int, interval_s: float, warm_up_s: float) -> None:
    ports = [int(port) for port in sys.argv[5:]]
    fleet = Fleet([Endpoint("127.0.0.1", port) for port in ports], interval_s, warm_up_s)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(fleet.live(seed)) for seed in range(first, last)]
        print("playing", flush=True)
        while line := (await lines.readline()).decode().split():
            match line:
                case ["status"]:
                    usage = resource.getrusage(resource.RUSAGE_SELF)
                    cpu_s = usage.ru_utime + usage.ru_stime
                    print(fleet.beating, fleet.watching, fleet.answered, cpu_s, flush=True)
                case ["interval", text]:
                    if float(text):
                        fleet.interval_s = float(text)
                        fleet.resumed.set()
                    else:
                        fleet.resumed.clear()
                    print("done", flush=True)
                case ["worst"]:
                    print(fleet.worst_s, flush=True)
                    fleet.worst_s = 0.0
                case _:
                    break
        for problem, count in sorted(fleet.problems.items(), key=lambda each: -each[1])[:4]:
            print(f"fleet: {count} x {problem}", file=sys.stderr)
        for node in nodes:
            node.cancel()


if __name__ == "__main__":
    allow_open_files()
    uvloop.run(_play(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
