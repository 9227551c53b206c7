# SPDX-License-Identifier: Apache-2.0
"""Masterdata as a gRPC service of its own, usable without the rest of Metal."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.rpc_metal_masterdata import VersionService
from metropolis.host import Clock, Entropy
from metropolis.metal.masterdata.member_services import add_member_services
from metropolis.metal.masterdata.project_service import add_project_service
from metropolis.metal.masterdata.signing import SignatureAuthenticator
from metropolis.metal.masterdata.tenant_service import add_tenant_service
from metropolis.metal.store import Store
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.mutual import MutualTls, serve_mutual
from metropolis.rpc.peer import Peer
from metropolis.rpc.transport import Endpoint

TCP_PORT: Final = 50051  # where clients of masterdata look for it
# Of a path, who calls, and the request as JSON: what is done inside is written down.
Record: TypeAlias = Callable[[str, Peer, bytes], AbstractAsyncContextManager[None]]
_Handler: TypeAlias = Callable[[Any, Peer], Awaitable[Any]]
_CHANGES: Final = frozenset({"Create", "Update", "Delete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterdataServing:
    """Where and with what masterdata is served.

    Attributes:
        endpoint: TCP port 0 for any that is free.
        key: With which clients sign.
    """

    endpoint: Endpoint
    tls: MutualTls
    key: bytes = field(repr=False)


def masterdata_services(store: Store, entropy: Entropy, record: Record | None = None) -> Services:
    """Return the services of tenants, projects, memberships and the version.

    Args:
        record: Writes down every call that changes something, before and after it is done.
    """
    services = Services()
    add_tenant_service(services, store, entropy)
    add_project_service(services, store, entropy)
    add_member_services(services, store, entropy)
    services.unary(VersionService.GET, _version)
    return services if record is None else _recorded(services, record)


def _recorded(services: Services, record: Record) -> Services:
    kept = Services()
    for path, registration in services.by_path.items():
        handler = registration.unary
        assert handler is not None, "masterdata has no streams"
        changes = path.rpartition("/")[2] in _CHANGES
        kept.unary(registration.method, _with_rows(path, handler, record) if changes else handler)
    return kept


def _with_rows(path: str, handler: _Handler, record: Record) -> _Handler:
    async def call(request: Message, peer: Peer) -> object:
        async with record(path, peer, MessageToJson(request).encode()):
            return await handler(request, peer)

    return call


async def _version(_request: pb.GetVersionRequest, _peer: Peer) -> pb.GetVersionResponse:
    program = f"v{version('metropolis')}"
    return pb.GetVersionResponse(version=program, revision=f"metropolis-{program}")


async def serve(
    serving: MasterdataServing,
    store: Store,
    *,
    clock: Clock,
    entropy: Entropy,
    stop: asyncio.Event,
    record: Record | None = None,
    started: Callable[[Endpoint], None] = lambda _endpoint: None,
) -> None:
    """Serve until `stop` is set.

    Args:
        record: See `masterdata_services`.
        started: Called with the endpoint once it can be reached.

    Raises:
        InvalidArgumentError: the certificate, the key or the authority cannot be used.
        UnavailableError: the endpoint cannot be bound.
    """
    async with serve_mutual(
        serving.endpoint,
        tls=serving.tls,
        services=masterdata_services(store, entropy, record),
        authenticator=SignatureAuthenticator(key=serving.key, clock=clock),
    ) as server:
        started(server.endpoint)
        await stop.wait()
