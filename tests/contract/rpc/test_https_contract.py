# SPDX-License-Identifier: Apache-2.0
"""HTTPS with client certificates: who gets through the handshake, and what is handed on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from contract.rpc.kit import (
    CA,
    EPHEMERAL,
    EXPIRED,
    LOOPS,
    NODE,
    OF_THIS_CLUSTER,
    OWNER,
    SERVER,
    STRANGE_NODE,
    run,
)
from metropolis.base.errors import MetropolisError, UnauthenticatedError, UnavailableError
from metropolis.base.ids import parse_node_id
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.http_client import get_local, get_mutual_https
from metropolis.rpc.https import (
    CONNECTIONS_PER_ADDRESS,
    HttpRequest,
    HttpResponse,
    serve_mutual_https,
)
from metropolis.rpc.tls import TlsContext, client_context
from metropolis.rpc.transport import Endpoint, ServerVerifier

BIG = 3 << 20


def free_endpoint() -> Endpoint:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Endpoint("127.0.0.1", server.getsockname()[1])


@dataclass
class Site:
    """A server that answers with what was asked, and what it was asked."""

    endpoint: Endpoint = field(default_factory=free_endpoint)
    requests: list[HttpRequest] = field(default_factory=list[HttpRequest])

    async def answer(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        body = bytes(BIG) if request.target == "/big" else request.target.encode()
        return HttpResponse(status=HTTPStatus.OK, content_type="text/x", body=body)

    async def get(
        self,
        target: str,
        credentials: Credentials | None = NODE,
        verify: ServerVerifier = OF_THIS_CLUSTER,
    ) -> HttpResponse:
        return await get_mutual_https(
            self.endpoint, target, credentials=credentials, verify=verify, timeout_s=5
        )


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    site = Site()
    async with serve_mutual_https(
        site.endpoint,
        credentials=SERVER,
        trusted_ca=lambda: CA.certificate,
        answer=site.answer,
    ):
        yield site


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "credentials", [NODE, OWNER, EPHEMERAL, EXPIRED, None], ids=["node", "owner", "bare", "old", ""]
)
def test_what_the_client_proved_to_hold_is_handed_on(
    credentials: Credentials | None, loop: str
) -> None:
    async def scenario() -> None:
        async with serving() as site:
            answer = await site.get("/hello?x=1", credentials)
            assert (answer.status, answer.content_type, answer.body) == (
                200,
                "text/x",
                b"/hello?x=1",
            )
            certificate = None if credentials is None else credentials.certificate
            assert site.requests == [
                HttpRequest(
                    method="GET",
                    target="/hello?x=1",
                    certificate=certificate,
                    address="127.0.0.1",
                )
            ]

    run(scenario, loop)


def test_a_certificate_of_another_cluster_ends_the_handshake() -> None:
    async def scenario() -> None:
        async with serving() as site:
            with pytest.raises(MetropolisError):
                await site.get("/", STRANGE_NODE)
            assert site.requests == []

    run(scenario)


def test_another_node_than_the_one_that_was_meant_is_told_nothing() -> None:
    async def scenario() -> None:
        async with serving() as site:
            meant = server_verifier(CA.certificate, parse_node_id("metropolis-" + "0" * 32))
            with pytest.raises(UnauthenticatedError):
                await site.get("/", NODE, meant)
            assert site.requests == []

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_answer_arrives_whole(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as site:
            assert len((await site.get("/big")).body) == BIG

    run(scenario, loop)


def test_nobody_alone_keeps_the_others_out() -> None:
    async def scenario() -> None:
        async with serving() as site:
            held: list[asyncio.StreamWriter] = []
            context = _client()
            try:
                for _ in range(CONNECTIONS_PER_ADDRESS):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", site.endpoint.tcp_port, ssl=context, server_hostname=""
                    )
                    held.append(writer)
                with pytest.raises(UnavailableError):
                    await site.get("/")
            finally:
                for writer in held:
                    writer.close()
            for writer in held:
                await writer.wait_closed()
            assert (await site.get("/again")).body == b"/again"

    run(scenario)


def _client() -> TlsContext:
    return client_context(None, verify=OF_THIS_CLUSTER, alpn=b"http/1.1")


@pytest.mark.parametrize(
    "said",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 299 Strange\r\nContent-Length: 0\r\n\r\n"],
    ids=["nothing", "nonsense", "a status that there is not"],
)
def test_what_is_no_http_is_an_error_and_no_surprise(said: bytes) -> None:
    async def scenario() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server:
            with pytest.raises(UnavailableError):
                await get_local(endpoint, "/metrics", timeout_s=5)

    run(scenario)


def test_a_program_that_does_not_listen_is_not_reached() -> None:
    async def scenario() -> None:
        with pytest.raises(UnavailableError, match="refused"):
            await get_local(free_endpoint(), "/metrics", timeout_s=5)

    run(scenario)
