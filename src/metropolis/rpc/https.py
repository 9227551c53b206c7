# SPDX-License-Identifier: Apache-2.0
"""A small HTTPS server for the ports of a node that do not speak gRPC.

One answer per connection: whoever needs more speaks gRPC. TLS as everywhere (1.3, exactly the
node's certificate, no tickets). `serve_https` asks no client for a certificate;
`serve_mutual_https` asks every client, and hands what it proved to hold to whoever answers.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import h11

from metropolis.base.errors import UnavailableError
from metropolis.pki.credentials import Credentials
from metropolis.rpc.limits import Tally
from metropolis.rpc.tls import TlsConnection, TlsContext, server_context
from metropolis.rpc.transport import Endpoint

REQUEST_TIMEOUT_S: Final = 10.0
HEADERS_BYTES_MAX: Final = 16 << 10
BODY_BYTES_MAX: Final = 8 << 20  # read and thrown away; whoever sends more is cut off
HANDSHAKE_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 256
CONNECTIONS_PER_ADDRESS: Final = 32  # so that nobody alone can keep the others out
_ALPN: Final = b"http/1.1"
_READ_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An answer. The body is sent whole."""

    status: HTTPStatus
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A question. Its body, if there is any, is thrown away.

    Attributes:
        certificate: DER of the one certificate that the client proved to hold, or None. It is
            self-signed, or of the cluster; nothing else is known about it.
        address: Literal IP address of the client, may be empty.
    """

    method: str
    target: str
    certificate: bytes | None = None
    address: str = ""


Respond = Callable[[str, str], HttpResponse]  # (method, target) -> answer
Answer = Callable[[HttpRequest], Awaitable[HttpResponse]]


class ServeHttps(Protocol):
    """The edge that listens; a simulation has none."""

    def __call__(
        self, endpoint: Endpoint, *, credentials: Credentials, respond: Respond
    ) -> AbstractAsyncContextManager[None]: ...


class ServeMutualHttps(Protocol):
    """The edge that listens and asks for certificates; a simulation has none."""

    def __call__(
        self,
        endpoint: Endpoint,
        *,
        credentials: Credentials,
        trusted_ca: Callable[[], bytes | None],
        answer: Answer,
    ) -> AbstractAsyncContextManager[None]: ...


@asynccontextmanager
async def serve_https(
    endpoint: Endpoint, *, credentials: Credentials, respond: Respond
) -> AsyncGenerator[None, None]:
    """Answer requests while the block runs.

    Raises:
        UnavailableError: the endpoint cannot be bound.
    """
    context = server_context(credentials, asks_for_certificate=False, alpn=_ALPN)

    async def answer(request: HttpRequest) -> HttpResponse:
        return respond(request.method, request.target)

    async with _serve(endpoint, context, answer):
        yield


@asynccontextmanager
async def serve_mutual_https(
    endpoint: Endpoint,
    *,
    credentials: Credentials,
    trusted_ca: Callable[[], bytes | None],
    answer: Answer,
) -> AsyncGenerator[None, None]:
    """Answer requests while the block runs, of clients asked for their certificates.

    Args:
        trusted_ca: Returns the cluster CA (DER): the handshake lets its certificates pass, and
            self-signed ones; who is admitted, `answer` decides.

    Raises:
        UnavailableError: the endpoint cannot be bound.
    """
    context = server_context(credentials, trusted_ca=trusted_ca, alpn=_ALPN)
    async with _serve(endpoint, context, answer):
        yield


@asynccontextmanager
async def _serve(
    endpoint: Endpoint, context: TlsContext, answer: Answer
) -> AsyncGenerator[None, None]:
    slots = asyncio.Semaphore(CONNECTIONS_MAX)
    held = Tally()  # by address

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = _address_of(writer)
        if slots.locked() or not held.acquire(address, limit=CONNECTIONS_PER_ADDRESS):
            writer.transport.abort()
            return
        try:
            async with slots:
                await _converse(reader, writer, answer)
        finally:
            held.release(address)

    try:
        server = await asyncio.start_server(
            handle,
            endpoint.host,
            endpoint.tcp_port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            limit=HEADERS_BYTES_MAX,
        )
    except OSError as cause:
        raise UnavailableError(
            f"cannot listen on {endpoint}", remedy="Find out what else listens there."
        ) from cause
    try:
        yield
    finally:
        server.close()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_BYTES_MAX)
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            request = await _read_request(connection, reader)
            if request is not None:
                response = await answer(_request_of(request, writer))
                writer.write(_render(connection, request, response))
                await writer.drain()
                await _discard_body(connection, reader)
    except (TimeoutError, OSError, h11.ProtocolError):
        pass  # a peer that cannot finish one request gets no more of our time
    finally:
        writer.close()


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_READ_BYTES))


async def _discard_body(connection: h11.Connection, reader: asyncio.StreamReader) -> None:
    """Read what the peer still sends: closing with unread bytes would take the answer back."""
    left = BODY_BYTES_MAX
    while left > 0:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Data):
            left -= len(event.data)
        else:
            return


def _request_of(request: h11.Request, writer: asyncio.StreamWriter) -> HttpRequest:
    tls: TlsConnection = writer.get_extra_info("ssl_object")
    return HttpRequest(
        method=request.method.decode("ascii"),
        target=request.target.decode("ascii"),
        certificate=tls.peer_certificate,
        address=_address_of(writer),
    )


def _address_of(writer: asyncio.StreamWriter) -> str:
    name: tuple[object, ...] = writer.get_extra_info("peername") or ("",)
    return str(name[0]).partition("%")[0]


def _render(connection: h11.Connection, request: h11.Request, answer: HttpResponse) -> bytes:
    head = h11.Response(
        status_code=answer.status,
        reason=answer.status.phrase.encode("ascii"),
        headers=[
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ],
    )
    parts = [connection.send(head), b"" if request.method == b"HEAD" else answer.body]
    return b"".join(part for part in parts if part)
