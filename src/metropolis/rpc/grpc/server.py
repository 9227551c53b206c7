# SPDX-License-Identifier: Apache-2.0
"""A listening gRPC server: accepts, shakes hands, admits connections, hands out their calls."""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from h2.errors import ErrorCodes

from metropolis.base.errors import (
    MetropolisError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.answer import CallContext, ServerCall, refuse
from metropolis.rpc.grpc.h2_connection import Headers
from metropolis.rpc.grpc.stream import WireStream
from metropolis.rpc.grpc.wire import Wire
from metropolis.rpc.limits import Limits, Tally
from metropolis.rpc.meter import CallMeter
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.throttle import Buckets, Rate, neighbourhood
from metropolis.rpc.tls import TlsConnection
from metropolis.rpc.transport import Authenticator, Endpoint, MetadataJudge, Recognizer

log: Final = logging.getLogger("metropolis.rpc")

_BACKLOG: Final = 256  # connections that the kernel holds; see `GrpcServer._wait_turn`
_ACCEPT_PAUSE_S: Final = 0.1
_TICK_S: Final = 0.05
_FRESH_TICKS: Final = 5  # of waiting, after which a handshake that has not ended counts as stalled


class GrpcServer:
    """One listening endpoint and its connections. Made by `serve`."""

    def __init__(
        self,
        *,
        services: Services,
        authenticator: Authenticator,
        context: ssl.SSLContext,
        limits: Limits,
        meter: CallMeter,
    ) -> None:
        self.services = services
        self.meter = meter
        self.authenticator = authenticator
        # Asked once: to look for the methods of a protocol takes as long as to encrypt a message.
        self.recognizer = authenticator if isinstance(authenticator, Recognizer) else None
        self.judge = authenticator if isinstance(authenticator, MetadataJudge) else None
        self.context = context
        self.limits = limits
        self.handshakes = Tally()  # by address
        self.handshake_rate = Buckets(
            Rate(per_s=limits.handshakes_per_s, burst=limits.handshakes_burst)
        )
        self.connections = Tally()  # by principal
        self.streams = Tally()  # by principal
        self.is_closing = False
        self._links: dict[_Link, None] = {}  # a set that keeps its order
        self._fresh: dict[_Link, int] = {}  # handshakes that began lately, and at which tick
        self._ticks = 0
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoint: Endpoint | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
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

    def listen(self, endpoint: Endpoint) -> None:
        """Bind and begin to accept.

        Raises:
            UnavailableError: the endpoint cannot be bound.
        """
        try:
            self._listener = _bind(endpoint)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {endpoint}: {error.strerror or error}",
                remedy="Stop the program that uses the port, or check the address.",
            ) from error
        host, tcp_port = self._listener.getsockname()[:2]
        self._endpoint = Endpoint(host, tcp_port)
        self._accepting = self.start(self._accept(self._listener))

    async def _accept(self, listener: socket.socket) -> None:
        # Not `loop.create_server`: its protocols know nothing of a connection before the end of
        # the handshake, so nobody could count or cut those that never end it.
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_turn()
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or the client went at once
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            link = _Link(self, accepted, _literal(address))
            if not link.begin():
                accepted.close()

    async def _wait_turn(self) -> None:
        """Leave the next caller in the kernel's queue while many handshakes have just begun.

        Ten thousand nodes that lost their leader come at once. If all their handshakes took turns,
        each turn of the loop would take seconds, and everybody else's time would run out: that of
        those who shake hands, and the lease of the leader. One that stalls is waited for a moment
        only, so nobody can close the door for others.
        """
        while len(self._fresh) >= self.limits.handshakes_fresh:
            link, began = next(iter(self._fresh.items()))
            if self._ticks - began >= _FRESH_TICKS:
                del self._fresh[link]
                continue
            self._room.clear()
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._room.wait()
            except TimeoutError:
                self._ticks += 1  # once per turn of the loop, however long turns are

    def begun(self, link: "_Link") -> None:
        """Note that a handshake began."""
        self._fresh[link] = self._ticks

    def shaken(self, link: "_Link") -> None:
        """Note that a handshake ended, well or not."""
        self._fresh.pop(link, None)
        self._room.set()

    def add(self, link: "_Link") -> bool:
        if self.is_closing or len(self._links) >= self.limits.connections:
            return False
        self._links[link] = None
        self.meter.connections += 1
        return True

    def remove(self, link: "_Link") -> None:
        if link in self._links:
            del self._links[link]
            self.meter.connections -= 1
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
        try:
            failure = task.exception()
        except asyncio.CancelledError:
            return  # asked for nevertheless: the task lets go of it, and of the stack that holds us
        if failure is not None:
            log.error("a connection's task failed", exc_info=failure)

    async def close(self) -> None:
        """Stop listening, cut every connection, end every call."""
        self.is_closing = True
        assert self._listener is not None, "closed after it listened"
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        self._listener.close()
        for link in list(self._links):
            link.cut("the server stops")
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._links:
            await self._all_gone.wait()


class _Link:
    """One accepted connection: first its handshake, then its HTTP/2."""

    def __init__(self, server: GrpcServer, accepted: socket.socket, address: str) -> None:
        self._server = server
        self._accepted = accepted
        self._is_socket_ours = True  # until a transport owns it
        self._address = address
        self._handler = _Connection(server)
        self._wire = Wire(self._handler, is_client=False, limits=server.limits)
        self._wire.on_made = self._stand
        self._wire.on_lost = self._forget
        self._handshake: asyncio.Task[None] | None = None
        self._principal = ""

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None before the handshake ended."""
        return self._handler.peer

    def begin(self) -> bool:
        """Start the handshake, unless there are, or were lately, too many already."""
        server = self._server
        now_s = asyncio.get_running_loop().time()
        if server.handshake_rate.take(neighbourhood(self._address), now_s=now_s):
            return False
        allowed = server.limits.handshakes_per_address
        if not server.handshakes.acquire(self._address, limit=allowed):
            return False
        if not server.add(self):
            server.handshakes.release(self._address)
            return False
        self._handshake = server.start(self._shake_hands())
        self._handshake.add_done_callback(self._end_handshake)
        server.begun(self)
        return True

    def cut(self, reason: str) -> None:
        if self._wire.is_made:
            self._wire.cut(reason)
        elif self._handshake is not None:
            self._handshake.cancel()

    async def _shake_hands(self) -> None:
        server = self._server
        self._is_socket_ours = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._wire,
                self._accepted,
                ssl=server.context,
                ssl_handshake_timeout=server.limits.handshake_s,
            )
        except OSError as error:  # of TLS too; or the time was over
            log.debug("%s: no connection: %s", self._address, error)

    def _end_handshake(self, _task: asyncio.Task[None]) -> None:
        # Not in the coroutine: one that is cancelled before its first step never runs.
        self._handshake = None
        self._server.handshakes.release(self._address)
        self._server.shaken(self)
        if self._is_socket_ours:
            self._accepted.close()
        if not self._wire.is_made:
            self._server.meter.refused_handshakes += 1
            self._wire.forget_listeners()
            self._forget("the handshake failed")

    def _stand(self, transport: asyncio.Transport) -> None:
        """The handshake is over: see who is there, and whether there is room for one more."""
        server = self._server
        limits = server.limits
        tls: TlsConnection = transport.get_extra_info("ssl_object")
        certificate = tls.peer_certificate
        peer = None
        try:
            if server.recognizer is not None:
                peer = server.recognizer.identify(certificate, self._address)
        except MetropolisError as error:
            log.warning("%s: taken for a stranger: %s", self._address, error)
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
                judge=server.judge,
                meter=server.meter,
            ),
            principal=principal,
            streams_max=streams_max,
        )
        if not server.connections.acquire(principal, limit=allowed):
            reason = f"more than {allowed} connections of {principal}"
            self._wire.say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM, reason)
            return
        self._principal = principal
        self._wire.keep_alive(limits.ping_idle_s, limits.ping_timeout_s)

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
            server.meter.refuse_unknown()
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
        task.add_done_callback(partial(self._finish, stream, release_stream))

    def cancel(self, stream: WireStream) -> None:
        task = self._calls.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in list(self._calls.values()):
            task.cancel()

    def _finish(
        self, stream: WireStream, release_stream: Callable[[], None], _task: asyncio.Task[None]
    ) -> None:
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
    meter: CallMeter | None = None,
) -> AsyncGenerator[GrpcServer, None]:
    """Listen while the block runs; then cut every connection and end every call."""
    server = GrpcServer(
        services=services,
        authenticator=authenticator,
        context=context,
        limits=limits,
        meter=meter or CallMeter(),
    )
    server.listen(endpoint)
    try:
        yield server
    finally:
        await server.close()


def _bind(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = int(endpoint.host != "::")  # which means every address of either family
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.setblocking(False)
        listener.bind((endpoint.host, endpoint.tcp_port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _literal(socket_address: Sequence[object]) -> str:
    """Spell the address of a socket's other end as the rest of the system does."""
    if ":" not in str(socket_address[0]):
        return str(socket_address[0])  # the kernel's spelling of IPv4 is everybody's
    address = ipaddress.ip_address(str(socket_address[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _unknown_method(path: str, services: Services) -> UnimplementedError:
    service = path.rpartition("/")[0]
    shown = path[:200] or "an empty path"
    if any(known.rpartition("/")[0] == service for known in services.by_path):
        text = f"{shown} is not a method of this service"
    else:
        text = f"this server does not offer the service of {shown}"
    return UnimplementedError(text, remedy="Check the address, the TCP port and the versions.")


def _too_many_calls(allowed: int) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"more than {allowed} calls are open at the same time",
        remedy="Finish some calls before starting others.",
    )
