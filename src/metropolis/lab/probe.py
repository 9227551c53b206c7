# SPDX-License-Identifier: Apache-2.0
"""Asking the proxy whether a node listens, before anything expensive is tried."""

import asyncio
import contextlib
from typing import Final

from metropolis.lab.socks5 import Reply

_TIMEOUT_S: Final = 2.0


async def is_port_open(proxy_tcp_port: int, name: str, tcp_port: int) -> bool:
    """Connect once through the proxy; say whether that worked.

    Args:
        name: Literal address or node id.
    """
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy_tcp_port)
            host = name.encode("ascii")
            writer.write(b"\x05\x01\x00")
            writer.write(b"\x05\x01\x00\x03" + bytes((len(host),)) + host)
            writer.write(tcp_port.to_bytes(2, "big"))
            await reader.readexactly(2)
            reply = await reader.readexactly(10)
            return reply[1] == Reply.SUCCEEDED
    except (OSError, EOFError):  # TimeoutError is an OSError
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
