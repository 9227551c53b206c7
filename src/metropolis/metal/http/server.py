# SPDX-License-Identifier: Apache-2.0
"""The HTTP server below the application: one process, one loop, sockets that were bound before."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Protocol

import uvicorn
from typing_extensions import override

from metropolis.base.errors import UnavailableError
from metropolis.metal.http.exchange import Receive, Scope, Send
from metropolis.metal.http.protocol import BoundedProtocol

BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 75
GRACE_S: Final = 10


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner."""

    @contextmanager
    @override
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, tcp_port: int) -> socket.socket:
    """Return a socket that clients can connect to.

    Raises:
        UnavailableError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, tcp_port))
        bound.listen(BACKLOG)  # who connects from now on waits for the server instead of failing
    except OSError as cause:
        bound.close()
        raise UnavailableError(
            f"cannot listen on {host} port {tcp_port}: {cause.strerror or cause}",
            remedy="Choose another address or port, or stop the program that has this one.",
        ) from cause
    return bound


class Closable(Protocol):
    """An ASGI application that ends what it would go on with for ever."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def close(self) -> None:
        """Let those go that would stay."""
        ...


async def serve_http(application: Closable, bound: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then answer what was asked and close."""
    config = uvicorn.Config(
        application,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)

    async def wait_stop() -> None:
        await stop.wait()
        application.close()
        server.should_exit = True

    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(wait_stop())
        await server.serve(sockets=[bound])
        waiter.cancel()
