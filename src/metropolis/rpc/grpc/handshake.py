# SPDX-License-Identifier: Apache-2.0
"""From a TCP connection to an encrypted one, the same on both event loops."""

import asyncio
import ssl

from metropolis.rpc.grpc.wire import Wire
from metropolis.rpc.tls import TlsConnection


async def shake_hands(
    tcp: asyncio.Transport,
    wire: Wire,
    context: ssl.SSLContext,
    *,
    is_server: bool,
    timeout_s: float,
) -> tuple[asyncio.Transport, TlsConnection]:
    """Encrypt a connection whose reading is paused, and start `wire` on it once it stands.

    Returns:
        The encrypted transport, which `wire` does not know yet, and its TLS state.

    Raises:
        OSError: the handshake failed, took longer than `timeout_s`, or the peer went away. The
            TCP connection is cut.
    """
    loop = asyncio.get_running_loop()
    try:
        transport = await loop.start_tls(
            tcp, wire, context, server_side=is_server, ssl_handshake_timeout=timeout_s
        )
        # uvloop also returns when the connection was lost in the middle of the handshake.
        tls = None if transport is None else transport.get_extra_info("ssl_object")
        if transport is None or not isinstance(tls, TlsConnection) or transport.is_closing():
            raise ConnectionResetError("the peer closed the connection during the handshake")
    except BaseException:
        tcp.abort()
        raise
    return transport, tls
