# SPDX-License-Identifier: Apache-2.0
"""A listening gRPC server: accepts, shakes hands, admits connections, hands out their calls."""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from h2.errors import ErrorCodes
from typing_extensions import override

from metropolis.base.errors import ResourceExhaustedError, UnavailableError, UnimplementedError
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.answer import CallContext, ServerCall, refuse
from metropolis.rpc.grpc.handshake import shake_hands
from metropolis.rpc.grpc.wire import Headers, Wire, WireStream
from metropolis.rpc.limits import Limits, Tally
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.transport import Authenticator, Endpoint, Recognizer

log: Final = logging.getLogger("metropolis.rpc")

_BACKLOG: Final = 1024  # connections the kernel holds while the loop is busy


class GrpcServer:
    """One listening endpoint and its connections. Made by `serve`."""

    def __init__(
        self,
        *,
        services: Services,
        authenticator: Authenticator,
        context: ssl.SSLContext,
        limits: Limits,
    ) -> None:
        self.services = services
        self.authenticator = authenticator
        self.context = context
        self.limits = limits
        self.handshakes = Tally()  # by address
        self.connections = Tally()  # by principal
        self.streams = Tally()  # by principal
        self.is_closing = False
        self._links: dict[_Link, None] = {}  # a set that keeps its order
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoint: Endpoint | None = None
        self._all_gone = asyncio.Event()

    @property
    def endpoint(self) -> Endpoint:
        assert self._endpoint is not None, "the server listens while its block runs"
        return self._endpoint

    def disconnect(self, is_unwanted: Callable[[Peer], bool]) -> int:
        """Close the connections of unwanted peers; return how many."""
        unwanted = [
            link for link in self._links if link.peer is not None and is_unwanted(link.peer)
        ]
        for link in unwanted:
            link.cut("the server closed the connection: its certificate is not wanted any more")
        return len(unwanted)

    async def listen(self, endpoint: Endpoint) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(
                lambda: _Link(self), endpoint.host, endpoint.tcp_port, backlog=_BACKLOG
            )
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {endpoint}: {error.strerror or error}",
                remedy="Stop the program that uses the port, or check the address.",
            ) from error
        host, tcp_port = listener.sockets[0].getsockname()[:2]
        self._endpoint = Endpoint(host, tcp_port)
        return listener

    def add(self, link: "_Link") -> bool:
        if self.is_closing or len(self._links) >= self.limits.connections:
            return False
        self._links[link] = None
        return True

    def remove(self, link: "_Link") -> None:
        self._links.pop(link, None)
        if self.is_closing and not self._links:
            self._all_gone.set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handshake or a call. Not in a task group: one failure must not end the others."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection's task failed", exc_info=task.exception())

    async def close(self, listener: asyncio.Server) -> None:
        """Stop listening, cut every connection, end every call."""
        self.is_closing = True
        listener.close()
        for link in list(self._links):
            link.cut("the server stops")
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._links:
            await self._all_gone.wait()
        await listener.wait_closed()


class _Link(asyncio.Protocol):
    """One accepted TCP connection: first its handshake, then its HTTP/2."""

    def __init__(self, server: GrpcServer) -> None:
        self._handler = _Connection(server)
        self._server = server
        self._tcp: asyncio.Transport | None = None
        self._wire: Wire | None = None
        self._address = ""
        self._principal = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        server = self._server
        self._tcp = tcp
        self._address = _literal(transport.get_extra_info("peername"))
        if not server.add(self):
            tcp.abort()
            return
        if not server.handshakes.acquire(self._address, limit=server.limits.handshakes_per_address):
            tcp.abort()
            return
        tcp.pause_reading()
        server.start(self._shake_hands(tcp))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection ended before its handshake began."""
        del exc
        self._forget("")

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None before the handshake ended."""
        return self._handler.peer

    def cut(self, reason: str) -> None:
        if self._wire is not None:
            self._wire.cut(reason)
        elif self._tcp is not None:
            self._tcp.abort()

    async def _shake_hands(self, tcp: asyncio.Transport) -> None:
        server = self._server
        wire = Wire(self._handler, is_client=False, limits=server.limits)
        wire.on_lost = self._forget
        try:
            transport, tls = await shake_hands(
                tcp, wire, server.context, is_server=True, timeout_s=server.limits.handshake_s
            )
        except OSError as error:
            log.debug("%s: no connection: %s", self._address, error)
            self._forget("the handshake failed")
            return
        finally:
            server.handshakes.release(self._address)
        self._wire = wire
        self._begin(transport, tls.peer_certificate)

    def _begin(self, transport: asyncio.Transport, certificate: bytes | None) -> None:
        server, wire = self._server, self._wire
        limits = server.limits
        assert wire is not None
        peer = None
        if isinstance(server.authenticator, Recognizer):
            peer = server.authenticator.identify(certificate, self._address)
        if peer is not None and peer.kind in (PeerKind.NODE, PeerKind.USER):
            principal, allowed = f"identity {peer.identity}", limits.connections_per_identity
            streams_max = limits.streams_per_identity
        else:
            principal, allowed = f"address {self._address}", limits.connections_per_address
            streams_max = limits.streams_per_address
        self._handler.begin(
            CallContext(
                authenticator=server.authenticator,
                limits=limits,
                certificate=certificate,
                address=self._address,
                peer=peer,
            ),
            principal=principal,
            streams_max=streams_max,
        )
        wire.connection_made(transport)
        if not server.connections.acquire(principal, limit=allowed):
            wire.say_goodbye(
                ErrorCodes.ENHANCE_YOUR_CALM, f"more than {allowed} connections of {principal}"
            )
            return
        self._principal = principal
        wire.keep_alive(limits.ping_idle_s, limits.ping_timeout_s)

    def _forget(self, _reason: str) -> None:
        server = self._server
        if self._principal:
            server.connections.release(self._principal)
            self._principal = ""
        server.remove(self)


class _Connection:
    """Starts and cancels the calls of one connection."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._calls: dict[WireStream, asyncio.Task[None]] = {}
        self._context: CallContext | None = None
        self._principal = ""
        self._streams_max = 0

    @property
    def peer(self) -> Peer | None:
        return None if self._context is None else self._context.peer

    def begin(self, context: CallContext, *, principal: str, streams_max: int) -> None:
        self._context = context
        self._principal = principal
        self._streams_max = streams_max

    def accept(
        self, stream: WireStream, headers: Headers, release_stream: Callable[[], None]
    ) -> None:
        server = self._server
        assert self._context is not None
        if server.is_closing:
            release_stream()
            return
        by_name = dict(headers)
        if by_name.get(":method") != "POST" or not by_name.get("content-type", "").startswith(
            "application/grpc"
        ):
            stream.send_now([(":status", "415")], is_last=True)
            stream.reset_now(ErrorCodes.NO_ERROR)
            release_stream()
            return
        path = by_name.get(":path", "")
        registration = server.services.by_path.get(path)
        if registration is None:
            refuse(stream, _unknown_method(path, server.services))
            release_stream()
            return
        if not server.streams.acquire(self._principal, limit=self._streams_max):
            refuse(stream, _too_many_calls(self._streams_max))
            release_stream()
            return
        call = ServerCall(self._context, registration, stream, by_name)
        task = server.start(call.run())
        self._calls[stream] = task
        task.add_done_callback(lambda _task: self._finish(stream, release_stream))

    def cancel(self, stream: WireStream) -> None:
        task = self._calls.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in list(self._calls.values()):
            task.cancel()

    def _finish(self, stream: WireStream, release_stream: Callable[[], None]) -> None:
        del self._calls[stream]
        self._server.streams.release(self._principal)
        release_stream()


@asynccontextmanager
async def serve(
    endpoint: Endpoint,
    *,
    context: ssl.SSLContext,
    services: Services,
    authenticator: Authenticator,
    limits: Limits,
) -> AsyncIterator[GrpcServer]:
    """Listen while the block runs; then cut every connection and end every call."""
    server = GrpcServer(
        services=services, authenticator=authenticator, context=context, limits=limits
    )
    listener = await server.listen(endpoint)
    try:
        yield server
    finally:
        await server.close(listener)


def _literal(peer_name: Sequence[object] | None) -> str:
    """Spell the address of a socket's other end as the rest of the system does."""
    if not peer_name:
        return ""
    address = ipaddress.ip_address(str(peer_name[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _unknown_method(path: str, services: Services) -> UnimplementedError:
    service = path.rpartition("/")[0] + "/"
    if any(known.startswith(service) for known in services.by_path):
        text = f"{path[:200]} is not a method of this service"
    else:
        text = f"this server does not offer the service of {path[:200]}"
    return UnimplementedError(text, remedy="Check the address, the TCP port and the versions.")


def _too_many_calls(allowed: int) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"more than {allowed} calls are open at the same time",
        remedy="Finish some calls before starting others.",
    )
