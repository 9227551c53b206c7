# SPDX-License-Identifier: Apache-2.0
"""The way into a cluster's network: a SOCKS5 server on 127.0.0.1 of the computer.

Its listening socket was opened in the computer's network, its connections start in the lab's: the
keeper moved in between. It never resolves names and dials nothing that the rules do not list.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Final, cast

from typing_extensions import override

from metropolis.lab.socks5 import Dial, Handshake, Refuse, Reply, Rules, Send, encode_reply
from metropolis.supervision import Context, Logger

CONNECTIONS_MAX: Final = 1024
HANDSHAKE_TIMEOUT_S: Final = 10.0
DIAL_TIMEOUT_S: Final = 10.0
BACKLOG: Final = 256

_REPLY_BY_ERROR: Final = {
    errno.ECONNREFUSED: Reply.CONNECTION_REFUSED,
    errno.ENETUNREACH: Reply.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reply.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Reply.HOST_UNREACHABLE,
}


def open_listener(wanted_tcp_port: int) -> socket.socket:
    """Listen on 127.0.0.1: at the wanted port if it is free, at any other if not."""
    for tcp_port in (wanted_tcp_port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", tcp_port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        listener.setblocking(False)
        return listener
    raise OSError(errno.EADDRINUSE, "every TCP port of 127.0.0.1 is in use")


class Proxy:
    """Serves clients until cancelled; every connection ends with it."""

    def __init__(
        self,
        listener: socket.socket,
        rules: Callable[[], Rules],
        *,
        is_on: Callable[[str], bool] = lambda _address: True,
    ) -> None:
        """Prepare to serve.

        Args:
            listener: Stays open over restarts of the runnable.
            rules: Asked at every new connection.
            is_on: Whether the machine with that address has power. The rack knows; finding out by
                waiting for answers takes as long as the kernel remembers the machine.
        """
        self._listener = listener
        self._rules = rules
        self.is_on = is_on
        self._clients: dict[_Client, None] = {}

    async def run(self, ctx: Context) -> None:
        """Serve, as a runnable."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            server = await loop.create_server(
                lambda: _Client(self, tasks, ctx.log), sock=self._listener.dup(), backlog=BACKLOG
            )
            try:
                ctx.healthy()
                await ctx.wait_cancelled()
            finally:
                server.close()
                for client in list(self._clients):
                    client.abort()

    def admit(self, client: "_Client") -> Handshake | None:
        """Take note of a new client; None when there are too many."""
        if len(self._clients) >= CONNECTIONS_MAX:
            return None
        self._clients[client] = None
        return Handshake(self._rules())

    def forget(self, client: "_Client") -> None:
        """The client is gone."""
        self._clients.pop(client, None)


class _Side(asyncio.Protocol):
    """One of the two connections that make a relayed one. Knows how to throttle the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.has_ended = False  # it will send no more

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    @override
    def eof_received(self) -> bool:
        self.has_ended = True
        other = self.other
        if other is None or other.transport is None:
            return False
        if other.has_ended:  # both directions are finished
            other.transport.close()
            return False
        other.transport.write_eof()
        return True  # the other direction goes on

    @override
    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        other, self.other = self.other, None
        if other is None:
            return
        other.other = None
        if other.transport is not None:
            if exc is None:
                other.transport.close()
            else:
                other.transport.abort()

    def abort(self) -> None:
        """End both connections, now."""
        for side in (self, self.other):
            if side is not None and side.transport is not None:
                side.transport.abort()


class _Client(_Side):
    """The operator's side: a handshake, then a relay."""

    def __init__(self, proxy: Proxy, tasks: asyncio.TaskGroup, log: Logger) -> None:
        super().__init__()
        self._proxy = proxy
        self._tasks = tasks
        self._log = log
        self._handshake: Handshake | None = None
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handshake = self._proxy.admit(self)
        if self._handshake is None:
            self._log.warning("refused a client: %d are connected", CONNECTIONS_MAX)
            self.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT_S, self.abort)

    @override
    def data_received(self, data: bytes) -> None:
        if self._handshake is None:
            super().data_received(data)
            return
        assert self.transport is not None
        for command in self._handshake.receive(data):
            match command:
                case Send(data=answer):
                    self.transport.write(answer)
                case Refuse(data=answer, reason=reason):
                    self._log.info("refused a client: it %s", reason)
                    self._stop_timer()
                    self.transport.write(answer)
                    self.transport.close()
                case Dial(address=address, tcp_port=tcp_port):
                    self._stop_timer()
                    self.transport.pause_reading()
                    self._tasks.create_task(self._dial(address, tcp_port))

    @override
    def eof_received(self) -> bool:
        if self._handshake is None:
            return super().eof_received()
        if self._handshake.is_decided:
            self.has_ended = True  # passed on once the other side is connected
            return True
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._proxy.forget(self)
        super().connection_lost(exc)

    async def _dial(self, address: str, tcp_port: int) -> None:
        """Connect to the node, answer the client, and relay from then on."""
        assert self._handshake is not None
        reply = Reply.SUCCEEDED
        upstream = _Side()
        try:
            if not self._proxy.is_on(address):
                raise OSError(errno.EHOSTUNREACH, "the machine is off")
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: upstream, address, tcp_port
                )
        except TimeoutError:
            reply = Reply.HOST_UNREACHABLE
        except OSError as error:
            reply = _REPLY_BY_ERROR.get(error.errno or 0, Reply.GENERAL_FAILURE)
        if self.transport is None or self.transport.is_closing():
            upstream.abort()
            return
        self.transport.write(encode_reply(reply))
        if reply is not Reply.SUCCEEDED:
            self.transport.close()
            return
        early, self._handshake = self._handshake.early, None
        if upstream.transport is None:  # it hung up already
            self.transport.close()
            return
        self.other, upstream.other = upstream, self
        if early:
            upstream.transport.write(early)
        if self.has_ended:
            upstream.transport.write_eof()
        with contextlib.suppress(RuntimeError):  # it closed meanwhile
            self.transport.resume_reading()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
