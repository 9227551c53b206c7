# SPDX-License-Identifier: Apache-2.0
"""A cluster's keys, a small service, and peers that speak TLS and HTTP/2 by hand."""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.wrappers_pb2 import BytesValue
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, ResponseReceived, TrailersReceived
from OpenSSL import SSL

from metropolis.api.methods import Cardinality, Method
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki import certificates
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import node_identity, server_verifier
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import Channel, Services
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.grpc.server import GrpcServer
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import Peer
from metropolis.rpc.transport import Endpoint, ServerVerifier

LOOPS = ("asyncio", "uvloop")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANYWHERE = Endpoint("127.0.0.1", 0)
TIMEOUT_S = 50.0  # of whole scenarios; none comes near on an idle machine

Bytes = Method[BytesValue, BytesValue]
Scenario = Callable[[], Awaitable[None]]


def run(scenario: Scenario, loop: str = "uvloop") -> None:
    """Run a scenario on a loop, then look for what it left behind."""
    troubles: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: troubles.append(what))
        async with asyncio.timeout(TIMEOUT_S):
            await scenario()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(3):  # callbacks of the very last moment
            await asyncio.sleep(0)
        assert not [task for task in rest if not task.done()], "a task was left behind"
        del rest
        gc.collect()  # makes unclosed transports warn, and errors that nobody took show

    if loop == "uvloop":
        uvloop.run(bounded())
    else:
        asyncio.run(bounded())
    gc.collect()
    assert not troubles


def method(name: str, cardinality: Cardinality, *, is_open: bool = True) -> Bytes:
    return Method(
        path=f"/test.Kit/{name}",
        request_type=BytesValue,
        response_type=BytesValue,
        cardinality=cardinality,
        needs=(),
        allow_unauthenticated=is_open,
    )


UNARY = method("Unary", Cardinality.UNARY_UNARY)
MEMBERS_ONLY = method("MembersOnly", Cardinality.UNARY_UNARY, is_open=False)
DOWN = method("Down", Cardinality.UNARY_STREAM)
BOTH = method("Both", Cardinality.STREAM_STREAM)


class FixedClock:
    """It is always the same moment."""

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return NOW


_KEYS = [generate_key(SimEntropy(seed)) for seed in range(8)]
CA = certificates.issue_cluster_ca(_KEYS[0], serial=1)
OTHER_CA = certificates.issue_cluster_ca(_KEYS[1], serial=1)


def _node(authority: certificates.Authority, key: int) -> Credentials:
    public_key = raw_public_key(_KEYS[key])
    certificate = certificates.issue_node(authority, public_key, serial=key)
    return Credentials(certificate=certificate, key=_KEYS[key])


def _user(identity: str, key: int, validity: certificates.Validity | None) -> Credentials:
    certificate = certificates.issue_user(
        CA, raw_public_key(_KEYS[key]), identity=identity, serial=key, validity=validity
    )
    return Credentials(certificate=certificate, key=_KEYS[key])


def _validity(begin_days: int, end_days: int) -> certificates.Validity:
    today = datetime.now(UTC).replace(microsecond=0)  # OpenSSL judges by the real clock
    return certificates.Validity(
        not_before=today + timedelta(days=begin_days), not_after=today + timedelta(days=end_days)
    )


SERVER = _node(CA, 2)
NODE = _node(CA, 3)
STRANGE_NODE = _node(OTHER_CA, 3)
OWNER = _user("owner", 4, None)
EXPIRED = _user(
    "ada",
    5,
    certificates.Validity(not_before=NOW - timedelta(days=60), not_after=NOW - timedelta(days=30)),
)
OF_THIS_CLUSTER = server_verifier(CA.certificate)
EPHEMERAL = Credentials(certificate=certificates.issue_ephemeral(_KEYS[6]), key=_KEYS[6])


def self_signed(begin_days: int, end_days: int) -> Credentials:
    """A self-signed certificate with dates of its own."""
    validity, name = _validity(begin_days, end_days), x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_KEYS[6].public_key())
        .serial_number(1)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .sign(_KEYS[6], None)
    )
    return Credentials(certificate=certificate.public_bytes(Encoding.DER), key=_KEYS[6])


class Echo:
    """Handlers that remember what they saw."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.services = Services()
        self.services.unary(UNARY, self.echo)
        self.services.unary(MEMBERS_ONLY, self.echo)
        self.services.stream(DOWN, self.wait)
        self.services.stream(BOTH, self.echo_all)

    async def echo(self, request: BytesValue, peer: Peer) -> BytesValue:
        self.peers.append(peer)
        return request

    async def wait(self, stream: Any) -> None:
        """Answer once, then never end."""
        await stream.send(await stream.receive())
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def echo_all(self, stream: Any) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)


@dataclass
class Kit:
    """A running server and ways to it."""

    server: GrpcServer
    transport: GrpcTransport
    echo: Echo

    def dial(
        self,
        credentials: Credentials | None = NODE,
        verify: ServerVerifier = OF_THIS_CLUSTER,
    ) -> Channel:
        return self.transport.dial(self.server.endpoint, credentials=credentials, verify=verify)

    @asynccontextmanager
    async def dialled(
        self,
        credentials: Credentials | None = NODE,
        verify: ServerVerifier = OF_THIS_CLUSTER,
    ) -> AsyncIterator[Channel]:
        channel = self.dial(credentials, verify)
        try:
            yield channel
        finally:
            await channel.close()

    @asynccontextmanager
    async def raw(
        self,
        credentials: Credentials | None = NODE,
        *,
        chain: Sequence[Credentials] = (),
        tune: Callable[[SSL.Context], None] = lambda _context: None,
        buffer_bytes: int | None = None,
    ) -> AsyncIterator["RawPeer"]:
        """A TCP connection to the server that does only what it is told."""
        tcp = socket.socket()
        tcp.setblocking(False)
        if buffer_bytes is not None:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        endpoint = self.server.endpoint
        await asyncio.get_running_loop().sock_connect(tcp, (endpoint.host, endpoint.tcp_port))
        reader, writer = await asyncio.open_connection(sock=tcp)
        try:
            yield RawPeer(reader, writer, _context(credentials, chain, tune))
        finally:
            writer.transport.abort()


@asynccontextmanager
async def serving(
    *, limits: Limits | None = None, is_ca_known: bool = True, services: Services | None = None
) -> AsyncIterator[Kit]:
    """A server of the cluster, and a transport to reach it."""
    echo = Echo()
    transport = GrpcTransport(limits=limits)
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: CA.certificate if is_ca_known else None,
        clock=FixedClock(),
        revoked=lambda _peer: None,
    )
    async with transport.serve(
        ANYWHERE,
        credentials=SERVER,
        services=services or echo.services,
        authenticator=authenticator,
    ) as server:
        yield Kit(server, transport, echo)


async def ask(channel: Channel, text: bytes = b"x", which: Bytes = UNARY, **options: Any) -> bytes:
    return (await channel.call(which, BytesValue(value=text), **options)).value


def _context(
    credentials: Credentials | None,
    chain: Sequence[Credentials],
    tune: Callable[[SSL.Context], None],
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([b"h2"])
    if credentials is not None:
        context.use_certificate(x509.load_der_x509_certificate(credentials.certificate))
        context.use_privatekey(credentials.key)
    for more in chain:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(more.certificate))
    tune(context)
    return context


class RawPeer:
    """TLS and HTTP/2 by hand, as a hostile or foreign client would."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: SSL.Context,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.tls = SSL.Connection(context, None)
        self.tls.set_connect_state()
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True, header_encoding="utf-8", validate_outbound_headers=False
            )
        )
        self.events: list[Event] = []

    async def handshake(self, *, flushes: bool = True) -> None:
        """Raises SSL.Error or ConnectionError when the server refuses, as far as that shows.

        Without `flushes` our last flight waits for what is written next.
        """
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            else:
                if flushes:
                    await self._flush()
                return

    async def read(self) -> bytes:
        """Return decrypted bytes; empty when the server closed the connection."""
        while True:
            try:
                return self.tls.recv(1 << 16)
            except SSL.WantReadError:
                try:
                    await self._fill()
                except ConnectionError:
                    return b""
            except SSL.ZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        if data:
            self.tls.sendall(data)
        await self._flush()

    async def begin_h2(self) -> None:
        await self.handshake()
        self.h2.initiate_connection()
        await self.flush_h2()

    async def flush_h2(self) -> None:
        await self.write(self.h2.data_to_send())

    async def request(
        self,
        path: str = UNARY.path,
        body: bytes | None = b"",
        *,
        is_last: bool = True,
        headers: Sequence[tuple[str, str]] = (),
    ) -> int:
        """Send a call; `body` are the raw bytes after the headers, or None for none at all."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream_id,
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", path),
                (":authority", "x"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *headers,
            ],
            end_stream=body is None and is_last,
        )
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=is_last)
        await self.flush_h2()
        return stream_id

    async def event(self, *kinds: type[Event]) -> Any:
        """Return the next event of these kinds; None when the server closed the connection."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kinds):
                    return event
            data = await self.read()
            if not data:
                return None
            self.events += self.h2.receive_data(data)
            with suppress(ConnectionError):  # what it said may have been its last
                await self.flush_h2()

    async def wait_closed(self) -> None:
        while await self.read():
            pass

    async def _fill(self) -> None:
        data = await self.reader.read(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.tls.bio_write(data)

    async def _flush(self) -> None:
        while True:
            try:
                self.writer.write(self.tls.bio_read(1 << 16))
            except SSL.WantReadError:
                break
        await self.writer.drain()


def framed(data: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


HELLO = framed(BytesValue(value=b"hello").SerializeToString())
NODE_ID = str(node_identity(NODE.certificate, CA.certificate))


async def outcome(peer: RawPeer) -> dict[str, str]:
    """Return the trailers of the next call that ends, or nothing if the connection does."""
    while True:
        event: Any = await peer.event(ResponseReceived, TrailersReceived)
        if event is None:
            return {}
        headers = dict(event.headers)
        if "grpc-status" in headers or headers.get(":status", "200") != "200":
            return headers


async def still_serves(here: Kit) -> bool:
    async with here.dialled() as channel:
        return await ask(channel, b"still there") == b"still there"
