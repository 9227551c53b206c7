# SPDX-License-Identifier: Apache-2.0
"""Ask port 6444 of a node whether Kubernetes is there, and under which name.

The server must present exactly one certificate, signed by the cluster's CA, with exactly one DNS
name; kubectl is told to expect that name. No client certificate is sent.
"""

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import h11

from metropolis.base.errors import (
    DeadlineExceededError,
    MetropolisError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.base.ports import KUBERNETES_API_WRAPPED_TCP_PORT
from metropolis.ctl.connection import endpoints_of
from metropolis.ctl.contexts import Context
from metropolis.pki.identity import server_verifier
from metropolis.pki.reading import read_certificate
from metropolis.rpc.tls import client_context
from metropolis.rpc.transport import Endpoint

_ALPN: Final = b"http/1.1"
_ANSWER_BYTES_MAX: Final = 64 << 10
_READ_BYTES: Final = 4096
_REMEDY: Final = "Check that the node is up and that the network leads there."


@dataclass(frozen=True, slots=True, kw_only=True)
class NotEnabled:
    """The port answers, and says that Kubernetes is not there (yet)."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enabled:
    """Kubernetes is there. `server_name` is the one DNS name of its certificate."""

    server_name: str


async def probe(context: Context, *, ca: bytes, timeout_s: float) -> NotEnabled | Enabled:
    """Probe the first endpoint of a context.

    Args:
        ca: DER of the cluster's CA.

    Raises:
        UnavailableError: nothing answers.
        UnauthenticatedError: what answers is no node of this cluster.
    """
    endpoint = Endpoint(endpoints_of(context)[0].host, KUBERNETES_API_WRAPPED_TCP_PORT)
    certificate = b""

    def verify(presented: bytes) -> None:
        nonlocal certificate
        server_verifier(ca)(presented)
        certificate = presented

    try:
        async with asyncio.timeout(timeout_s):
            status, body = await _get(context, endpoint, verify)
    except TimeoutError as cause:
        raise DeadlineExceededError(
            f"{endpoint} did not answer within {timeout_s:g} s", remedy=_REMEDY
        ) from cause
    except OSError as cause:
        refusal = cause.__cause__
        if isinstance(refusal, MetropolisError):
            raise type(refusal)(f"{endpoint}: {refusal}", remedy=refusal.remedy) from None
        raise UnavailableError(f"cannot reach {endpoint}: {cause}", remedy=_REMEDY) from cause
    names = read_certificate(certificate).dns_names
    if len(names) != 1:
        raise UnauthenticatedError(
            f"the certificate of {endpoint} has {len(names)} DNS names instead of one",
            remedy="Check that the address belongs to a node of this cluster.",
        )
    message = _not_enabled(status, body)
    return NotEnabled(message=message) if message else Enabled(server_name=names[0])


def _not_enabled(status: int, body: bytes) -> str:
    """Return the message of a Kubernetes Status object that came with 503; else nothing."""
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        return ""
    try:
        answer: object = json.loads(body)
    except ValueError:
        return ""
    fields = cast("dict[str, object]", answer) if isinstance(answer, dict) else {}
    if fields.get("kind") == "Status":
        message = fields.get("message")
        return message if isinstance(message, str) and message.isprintable() else ""
    return ""


async def _get(context: Context, endpoint: Endpoint, verify: Any) -> tuple[int, bytes]:  # noqa: ANN401  # a ServerVerifier
    tls = client_context(None, verify=verify, alpn=_ALPN)
    if context.proxy is None:
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.tcp_port, ssl=tls, server_hostname=""
        )
    else:
        from python_socks import ProxyError  # noqa: PLC0415  # only with a proxy
        from python_socks.async_.asyncio import Proxy  # noqa: PLC0415

        try:
            connected = await Proxy.from_url(f"socks5://{context.proxy}").connect(
                dest_host=endpoint.host, dest_port=endpoint.tcp_port
            )
        except ProxyError as cause:
            raise OSError(f"the proxy {context.proxy} refused: {cause}") from cause
        reader, writer = await asyncio.open_connection(sock=connected, ssl=tls, server_hostname="")
    try:
        return await _converse(reader, writer, endpoint)
    finally:
        writer.transport.abort()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint
) -> tuple[int, bytes]:
    """Make one request; return status and body, both without belief in their goodness."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET", target="/version", headers=[("Host", str(endpoint)), ("Connection", "close")]
    )
    writer.write(connection.send(request) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _ANSWER_BYTES_MAX:
                    return status, b""
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return status, body
    except h11.RemoteProtocolError as cause:
        raise OSError(f"it does not speak HTTP: {cause}") from cause
