# SPDX-License-Identifier: Apache-2.0
"""What calls, handshakes and idle connections cost a server, with authorization, on uvloop.

Server and client are processes of their own, so that the server's CPU time and memory are its own.
"""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import uvloop

from metropolis.api import management_pb2
from metropolis.api.rpc_management import Management
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki import certificates
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import Channel, ServerStream, Services
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import Peer
from metropolis.rpc.transport import Endpoint

CALLS = 20_000
CONCURRENT = 64
MESSAGES = 40_000
CONNECTIONS = 1000
CONNECTING_AT_ONCE = 50

Measurement = tuple[float, str, float | None]  # value, unit, target

GetNodes = ServerStream[management_pb2.GetNodesRequest, management_pb2.Node]

CA = certificates.issue_cluster_ca(generate_key(SimEntropy(1)), serial=1)
ASK = management_pb2.GetClusterInfoRequest()


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    figures: dict[str, Measurement] = {}
    with _server() as server:
        server.client("calls", 2000)  # warm
        before = server.figures()
        server.client("calls", CALLS)
        cpu_us = (server.figures().cpu_s - before.cpu_s) / CALLS * 1e6
        figures[f"server CPU per unary call, {CONCURRENT} at once"] = (cpu_us, "us", 300.0)
        before = server.figures()
        server.client("connections", CALLS)
        cpu_us = (server.figures().cpu_s - before.cpu_s) / CALLS * 1e6
        figures[f"server CPU per unary call, {CONCURRENT} connections"] = (cpu_us, "us", None)
        before = server.figures()
        server.client("stream", MESSAGES)
        cpu_us = (server.figures().cpu_s - before.cpu_s) / MESSAGES * 1e6
        figures["server CPU per streamed message"] = (cpu_us, "us", None)
    with _server() as server:
        server.client("calls", 100)
        before = server.figures()
        held = server.start_client("idle", CONNECTIONS)
        assert held.stdout is not None
        assert held.stdout.readline() == "connected\n"
        after = server.figures()
        held.communicate("done\n")
        cpu_ms = (after.cpu_s - before.cpu_s) / CONNECTIONS * 1e3
        kib = (after.resident_kib - before.resident_kib) / CONNECTIONS
        figures[f"memory per idle connection, {CONNECTIONS}"] = (kib, "KiB", 120.0)
        figures["server CPU per handshake with its first call"] = (cpu_ms, "ms", None)
    return figures


class _Figures:
    def __init__(self, line: str) -> None:
        cpu_s, resident_kib = line.split()
        self.cpu_s = float(cpu_s)
        self.resident_kib = int(resident_kib)


class _Server:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._questions: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        self._tcp_port = self._answers.readline().strip()

    def figures(self) -> _Figures:
        self._questions.write("figures\n")
        self._questions.flush()
        return _Figures(self._answers.readline())

    def client(self, what: str, count: int) -> None:
        process = self.start_client(what, count)
        process.communicate()
        assert process.returncode == 0, f"the client failed: {what}"

    def start_client(self, what: str, count: int) -> "subprocess.Popen[str]":
        return _start("client", self._tcp_port, what, str(count))


@contextmanager
def _server() -> Iterator[_Server]:
    process = _start("server")
    try:
        yield _Server(process)
    finally:
        process.kill()
        process.communicate()


def _start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench.rpc", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )


class _Clock:
    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def _node(seed: int) -> Credentials:
    key = generate_key(SimEntropy(seed))
    certificate = certificates.issue_node(CA, raw_public_key(key), serial=seed)
    return Credentials(certificate=certificate, key=key)


async def _serve() -> None:
    async def answer(
        _request: management_pb2.GetClusterInfoRequest, _peer: Peer
    ) -> management_pb2.GetClusterInfoResponse:
        return management_pb2.GetClusterInfoResponse(ca_certificate=CA.certificate)

    async def pour(stream: GetNodes) -> None:
        node = management_pb2.Node(id="metropolis-" + 32 * "0")
        request = await stream.receive()
        assert request is not None
        for _ in range(int(request.filter)):
            await stream.send(node)

    services = Services()
    services.unary(Management.GET_CLUSTER_INFO, answer)
    services.stream(Management.GET_NODES, pour)
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: CA.certificate, clock=_Clock(), revoked=lambda _peer: None
    )
    transport = GrpcTransport(
        limits=Limits(connections_per_identity=CONNECTIONS, handshakes_per_address=CONNECTIONS)
    )
    async with transport.serve(
        Endpoint("127.0.0.1", 0),
        credentials=_node(2),
        services=services,
        authenticator=authenticator,
    ) as server:
        print(server.endpoint.tcp_port, flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        while await lines.readline():
            usage = resource.getrusage(resource.RUSAGE_SELF)
            print(usage.ru_utime + usage.ru_stime, _resident_kib(), flush=True)


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


async def _call(channel: Channel, count: int) -> None:
    for _ in range(count):
        await channel.call(Management.GET_CLUSTER_INFO, ASK, timeout_s=60)


async def _client(tcp_port: int, what: str, count: int) -> None:
    transport = GrpcTransport(connect_s=60)
    credentials, verify = _node(3), server_verifier(CA.certificate)

    def dial() -> Channel:
        return transport.dial(
            Endpoint("127.0.0.1", tcp_port), credentials=credentials, verify=verify
        )

    if what == "calls":
        one = dial()
        await _together([lambda: _call(one, count // CONCURRENT)] * CONCURRENT)
    elif what == "connections":
        await _together([lambda: _call(dial(), count // CONCURRENT)] * CONCURRENT)
    elif what == "stream":
        async with dial().open(Management.GET_NODES) as stream:
            await stream.send(management_pb2.GetNodesRequest(filter=str(count)))
            while await stream.receive() is not None:
                pass
    else:
        channels = [dial() for _ in range(count)]
        for start in range(0, count, CONNECTING_AT_ONCE):
            some = channels[start : start + CONNECTING_AT_ONCE]
            await _together([lambda each=each: _call(each, 1) for each in some])  # type: ignore[misc]
        print("connected", flush=True)
        sys.stdin.readline()


async def _together(works: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(work() for work in works))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            uvloop.run(_serve())
        case ["client", port, what, count]:
            uvloop.run(_client(int(port), what, int(count)))
        case _:
            sys.exit("give: server | client PORT WHAT COUNT")
