# SPDX-License-Identifier: Apache-2.0
"""A connection whose request never comes does not stay."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from metropolis.metal.http.protocol import BoundedProtocol

GOOD = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"


class Hasty(BoundedProtocol):
    """One that does not wait long."""

    head_s = 0.4


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await asyncio.sleep(2 * Hasty.head_s)  # whose head was there may take longer
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def sent(*pieces: bytes, answers: int = 0) -> bytes:
    """What comes back until the server closes, whose answers are awaited between the pieces."""
    config = uvicorn.Config(answer, lifespan="off", log_config=None)
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: Hasty(config=config, server_state=ServerState(), app_state={}), "127.0.0.1", 0
    )
    async with server, asyncio.timeout(10):
        tcp_port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp_port)
        received = b""
        for number, piece in enumerate(pieces):
            writer.write(piece)
            if number < answers:
                received += await reader.readuntil(b"ok")
        received += await reader.read()
        writer.close()
    return received


@pytest.mark.parametrize("piece", [b"", b"GET /health HTTP/1.1\r\nhost:"])
def test_a_head_that_never_ends_is_given_up(piece: bytes) -> None:
    assert asyncio.run(sent(piece)) == b""


def test_so_is_a_later_one_and_who_is_answered_has_time() -> None:
    assert asyncio.run(sent(GOOD, GOOD[:20], answers=1)).count(b"200 OK") == 1
