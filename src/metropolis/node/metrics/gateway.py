# SPDX-License-Identifier: Apache-2.0
"""Answers the requests of port 7840: first who asks, then what for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from metropolis.api.authorization_pb2 import Permission
from metropolis.api.curator_pb2 import GetCACertificateRequest, GetCACertificateResponse, Node
from metropolis.api.methods import Cardinality, Method
from metropolis.base.errors import (
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    chain,
)
from metropolis.consensus.member.arguments import METRICS_TCP_PORT as ETCD_TCP_PORT
from metropolis.formats.exposition import CONTENT_TYPE, encode
from metropolis.node.metrics.discovery import document
from metropolis.node.metrics.figures import CoreSources, core_figures
from metropolis.node.metrics.kernel.collectors import collect
from metropolis.rpc.https import HttpRequest, HttpResponse
from metropolis.rpc.status import sentence
from metropolis.rpc.transport import Authenticator, Endpoint

ETCD: Final = Endpoint("127.0.0.1", ETCD_TCP_PORT)
FRESH_S: Final = 1.0  # several who scrape at the same time get the same figures
# What a request needs, in the terms of calls. No gRPC server offers it.
READ: Final[Method[Any, Any]] = Method(
    path="/metropolis.Metrics/GET",
    request_type=GetCACertificateRequest,  # which nobody sends
    response_type=GetCACertificateResponse,
    cardinality=Cardinality.UNARY_UNARY,
    needs=(Permission.PERMISSION_READ_CLUSTER_STATUS,),
    allow_unauthenticated=False,
)
NOT_IN_THIS_BUILD: Final = (
    "kubernetes-scheduler",
    "kubernetes-controller-manager",
    "kubernetes-apiserver",
    "containerd",
)
_TEXT: Final = "text/plain; charset=utf-8"
_STATUS: Final[Mapping[type[MetropolisError], HTTPStatus]] = {
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    PermissionDeniedError: HTTPStatus.FORBIDDEN,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}

Scrape = Callable[[], Awaitable[HttpResponse]]


@dataclass(slots=True)
class _Kept:
    """The last answer of one exporter, and who is being waited for."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    answer: HttpResponse | None = None
    until_s: float = 0.0


class Gateway:
    """Judges and answers.

    Args:
        nodes: The nodes of the cluster, or None where they are not told: this node is no
            consensus member, or has not heard of the others yet.
    """

    def __init__(
        self,
        sources: CoreSources,
        *,
        authenticator: Authenticator,
        nodes: Callable[[], Mapping[str, Node] | None],
    ) -> None:
        self._sources = sources
        self._authenticator = authenticator
        self._nodes = nodes
        self._exporters: Mapping[str, Scrape] = {
            "core": self._core,
            "node": self._node,
            "etcd": self._etcd,
        }
        self._kept = {name: _Kept() for name in self._exporters}

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer one request. Never raises."""
        try:
            self._authenticator.authenticate(READ, request.certificate, request.address)
        except MetropolisError as error:
            status = next(
                (status for kind, status in _STATUS.items() if isinstance(error, kind)),
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )
            return text(status, sentence(error))
        if request.method != "GET":
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is answered here.")
        path = request.target.partition("?")[0]
        if path == "/discovery":
            return self._discovery()
        name = path.removeprefix("/metrics/")
        if name in self._exporters and name != path:
            return await self._fresh(name)
        if name in NOT_IN_THIS_BUILD and name != path:
            return _no_exporter(f"{name}: Kubernetes is not in this build")
        known = ", ".join(f"/metrics/{each}" for each in (*self._exporters, *NOT_IN_THIS_BUILD))
        return text(HTTPStatus.NOT_FOUND, f"Nothing is here. There are /discovery, {known}.")

    async def _fresh(self, name: str) -> HttpResponse:
        """Return an answer that is at most `FRESH_S` old; one is made at a time."""
        kept = self._kept[name]
        loop = asyncio.get_running_loop()
        async with kept.lock:
            if kept.answer is None or loop.time() >= kept.until_s:
                kept.answer = await self._exporters[name]()
                kept.until_s = loop.time() + FRESH_S
            return kept.answer

    async def _core(self) -> HttpResponse:
        return _figures(encode(await core_figures(self._sources)))

    async def _node(self) -> HttpResponse:
        families = await collect(self._sources.edges.kernel, self._sources.clock)
        return _figures(encode(families))

    async def _etcd(self) -> HttpResponse:
        if self._sources.consensus() is None:
            return _no_exporter("etcd: this node has no consensus member that votes")
        try:
            found = await self._sources.edges.get_local(ETCD, "/metrics")
        except MetropolisError as error:
            return _no_exporter(f"etcd: {chain(error)}")
        if found.status is not HTTPStatus.OK:
            return _no_exporter(f"etcd: it answers {found.status.value}")
        return found

    def _discovery(self) -> HttpResponse:
        nodes = self._nodes()
        if nodes is None:
            return text(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "This node does not know the others: only consensus members tell. Ask another.",
            )
        return HttpResponse(
            status=HTTPStatus.OK, content_type="application/json", body=document(nodes)
        )


def text(status: HTTPStatus, said: str) -> HttpResponse:
    """Return an answer for people."""
    return HttpResponse(status=status, content_type=_TEXT, body=f"{said}\n".encode())


def _no_exporter(why: str) -> HttpResponse:
    return text(HTTPStatus.BAD_GATEWAY, f"could not reach exporter: {why}")


def _figures(body: bytes) -> HttpResponse:
    return HttpResponse(status=HTTPStatus.OK, content_type=CONTENT_TYPE, body=body)
