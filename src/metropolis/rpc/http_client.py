# SPDX-License-Identifier: Apache-2.0
"""One GET over HTTP/1.1: to a node's port with mutual TLS, or to a program of this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import h11

from metropolis.base.errors import ResourceExhaustedError, UnavailableError
from metropolis.pki.credentials import Credentials
from metropolis.rpc.dialling import NETWORK_REMEDY, dial_socks, not_reached
from metropolis.rpc.https import HttpResponse
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.tls import client_context
from metropolis.rpc.transport import Endpoint, ServerVerifier

ANSWER_S: Final = 10.0
BODY_BYTES_MAX: Final = 64 << 20
_ALPN: Final = b"http/1.1"
_READ_BYTES: Final = 64 << 10
_REQUEST_HEADERS: Final = (("Connection", "close"), ("Accept", "text/plain"))

# Asks a program of this machine: (endpoint, target) -> what it answered.
GetLocal = Callable[[Endpoint, str], Awaitable[HttpResponse]]

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def get_local(
    endpoint: Endpoint, target: str, *, timeout_s: float = ANSWER_S
) -> HttpResponse:
    """GET without TLS from a program of this machine.

    Raises:
        UnavailableError: it does not listen, or does not answer in time.
    """

    async def connect() -> _Streams:
        return await asyncio.open_connection(endpoint.host, endpoint.tcp_port)

    return await _bounded(endpoint, connect, target, timeout_s)


async def get_mutual_https(
    endpoint: Endpoint,
    target: str,
    *,
    credentials: Credentials | None,
    verify: ServerVerifier,
    proxy: str | None = None,
    timeout_s: float = ANSWER_S,
) -> HttpResponse:
    """GET from a node, whose certificate `verify` judges before ours is sent.

    Args:
        proxy: `host:port` of a SOCKS5 proxy, or None to dial directly.

    Raises:
        UnavailableError: it is not reached, or does not answer in time.
        UnauthenticatedError: the server is not who it should be.
        ResourceExhaustedError: the answer is too large.
    """
    context = client_context(credentials, verify=verify, alpn=_ALPN)

    # A reader that never pauses: uvloop drops what comes between a pause and the end of TLS.
    async def connect() -> _Streams:
        if proxy is None:
            return await asyncio.open_connection(
                endpoint.host, endpoint.tcp_port, ssl=context, limit=BODY_BYTES_MAX
            )
        connected = await dial_socks(proxy, endpoint)
        return await asyncio.open_connection(
            sock=connected, ssl=context, server_hostname="", limit=BODY_BYTES_MAX
        )

    return await _bounded(endpoint, connect, target, timeout_s)


async def _bounded(
    endpoint: Endpoint, connect: Callable[[], Awaitable[_Streams]], target: str, timeout_s: float
) -> HttpResponse:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await connect()
            try:
                return await _get(reader, writer, str(endpoint), target)
            finally:
                writer.close()
    except TimeoutError:
        raise NotReachedError(
            f"{endpoint} did not answer within {timeout_s:g} s", remedy=NETWORK_REMEDY
        ) from None
    except OSError as error:
        raise not_reached(str(endpoint), error) from error


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str
) -> HttpResponse:
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=target, headers=[("Host", host), *_REQUEST_HEADERS])
    for part in (connection.send(request), connection.send(h11.EndOfMessage())):
        writer.write(part or b"")
    await writer.drain()
    head: h11.Response | None = None
    body: list[bytes] = []
    size = 0
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
                size += len(event.data)
                if size > BODY_BYTES_MAX:
                    raise ResourceExhaustedError(
                        f"{host} answers {target} with more than {BODY_BYTES_MAX >> 20} MiB"
                    )
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _response(head, b"".join(body))
            elif not isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError as error:
        raise UnavailableError(f"{host} does not speak HTTP: {error}") from error
    raise UnavailableError(f"{host} ended the connection without an answer")


def _response(head: h11.Response, body: bytes) -> HttpResponse:
    types = [value.decode("latin-1") for name, value in head.headers if name == b"content-type"]
    try:
        status = HTTPStatus(head.status_code)
    except ValueError as cause:
        raise UnavailableError(f"the answer has the status {head.status_code}") from cause
    return HttpResponse(status=status, content_type=(types or [""])[0], body=body)
