# SPDX-License-Identifier: Apache-2.0
"""The real transport: gRPC over TLS over TCP, and plaintext to a program's own unix socket."""

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from typing import Final

from metropolis.pki.credentials import Credentials
from metropolis.rpc.channel import Channel, DialledChannel, Services
from metropolis.rpc.dialling import NETWORK_REMEDY, dial_socks, not_reached
from metropolis.rpc.grpc.client import ClientHandler, GrpcChannel
from metropolis.rpc.grpc.server import GrpcServer, serve
from metropolis.rpc.grpc.wire import Wire
from metropolis.rpc.limits import Limits
from metropolis.rpc.meter import CallMeter
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.tls import TlsContext, client_context, server_context
from metropolis.rpc.transport import Authenticator, Endpoint, ServerVerifier

CONNECT_S: Final = 10.0  # TCP, proxy and TLS together
KEEPALIVE_IDLE_S: Final = 6.0  # a heartbeat every 5 s is no silence; see KEEPALIVE_TIMEOUT_S
KEEPALIVE_TIMEOUT_S: Final = 3.0  # a server that lost its power without a word is missed after 9 s
UNIX_PATH_BYTES_MAX: Final = 107  # sun_path holds 108 with the final zero
UNIX_MESSAGE_BYTES_MAX: Final = 64 << 20  # our own etcd may list a large cluster at once


class GrpcTransport:
    """Implements `metropolis.rpc.transport.Transport` over the network.

    Args:
        proxy: `host:port` of a SOCKS5 proxy through which to dial, or None to dial directly.
        limits: What servers grant.
        connect_s: How long a connection may take to stand.
        keepalive_idle_s: Silence after which a client pings.
        keepalive_timeout_s: Silence after a ping that ends the connection.
        meter: Counts what all servers of this transport do.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        limits: Limits | None = None,
        connect_s: float = CONNECT_S,
        keepalive_idle_s: float = KEEPALIVE_IDLE_S,
        keepalive_timeout_s: float = KEEPALIVE_TIMEOUT_S,
        meter: CallMeter | None = None,
    ) -> None:
        self._proxy = proxy
        self._meter = meter or CallMeter()
        self._limits = limits or Limits()
        self._connect_s = connect_s
        self._keepalive = (keepalive_idle_s, keepalive_timeout_s)

    def dial(
        self, endpoint: Endpoint, *, credentials: Credentials | None, verify: ServerVerifier
    ) -> DialledChannel:
        context = client_context(credentials, verify=verify)

        async def connect() -> Wire:
            return await self._dial_tls(endpoint, context)

        return GrpcChannel(
            connect,
            name=str(endpoint),
            scheme="https",
            authority=str(endpoint),
            message_bytes_max=self._limits.message_bytes,
        )

    def serve(
        self,
        endpoint: Endpoint,
        *,
        credentials: Credentials,
        services: Services,
        authenticator: Authenticator,
    ) -> AbstractAsyncContextManager[GrpcServer]:
        return serve(
            endpoint,
            context=server_context(credentials, trusted_ca=lambda: authenticator.ca_certificate),
            services=services,
            authenticator=authenticator,
            limits=self._limits,
            meter=self._meter,
        )

    async def _dial_tls(self, endpoint: Endpoint, context: TlsContext) -> Wire:
        wire = Wire(ClientHandler(), is_client=True, limits=self._limits)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                if self._proxy is None:
                    await loop.create_connection(
                        lambda: wire, endpoint.host, endpoint.tcp_port, ssl=context
                    )
                else:
                    connected = await dial_socks(self._proxy, endpoint)
                    await loop.create_connection(
                        lambda: wire, sock=connected, ssl=context, server_hostname=""
                    )
            if not wire.is_made:  # uvloop says so when the peer leaves in the middle
                raise ConnectionResetError("the peer closed the connection during the handshake")
        except TimeoutError:
            raise NotReachedError(
                f"{endpoint} did not answer within {self._connect_s:g} s", remedy=NETWORK_REMEDY
            ) from None
        except OSError as error:
            raise not_reached(str(endpoint), error) from error
        wire.keep_alive(*self._keepalive)
        return wire


def dial_unix(path: str, *, message_bytes_max: int = UNIX_MESSAGE_BYTES_MAX) -> Channel:
    """Return a plaintext channel to a program of this machine that listens on a unix socket.

    There is no keep-alive: the kernel tells when the other program is gone.

    Args:
        path: Of the socket; relative paths keep it below 108 bytes.
        message_bytes_max: Of a message in either direction.
    """
    assert len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX, f"{path} is too long for a unix socket"
    limits = Limits(message_bytes=message_bytes_max)

    async def connect() -> Wire:
        wire = Wire(ClientHandler(), is_client=True, limits=limits)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: wire, path)
        except OSError as error:  # a time-out, too
            raise not_reached(f"unix:{path}", error) from error
        return wire

    return GrpcChannel(
        connect,
        name=f"unix:{path}",
        scheme="http",
        authority="localhost",
        message_bytes_max=message_bytes_max,
    )
