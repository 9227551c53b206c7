# SPDX-License-Identifier: Apache-2.0
"""The address books as a gRPC service of their own, usable without the rest of Metal."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, TypeVar

from metropolis.api import metal_ipam_pb2 as pb
from metropolis.api.rpc_metal_ipam import IpamService
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.host import Entropy
from metropolis.metal.ipam import addresses, dump, namespaces, prefixes
from metropolis.metal.ipam.addresses import Address
from metropolis.metal.ipam.desk import AddressDesk, open_desk
from metropolis.metal.ipam.prefixes import Prefix
from metropolis.metal.store import Reader, Store, Transaction
from metropolis.metal.store.documents import is_storable
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.mutual import MutualTls, serve_mutual
from metropolis.rpc.peer import Peer
from metropolis.rpc.transport import Endpoint

TCP_PORT: Final = 9090  # where clients of the address books look for them
ResultT = TypeVar("ResultT")


class _Ipam:
    """Handlers. Whatever cannot be done answers `InvalidArgument`, as clients expect."""

    def __init__(self, store: Store, desk: AddressDesk) -> None:
        self._store = store
        self._desk = desk

    async def create_prefix(
        self, request: pb.CreatePrefixRequest, _peer: Peer
    ) -> pb.CreatePrefixResponse:
        space = _space(request.namespace)
        made = await self._write(
            lambda tx: prefixes.create_prefix(tx, request.cidr, namespace=space)
        )
        return pb.CreatePrefixResponse(prefix=_prefix(made))

    async def delete_prefix(
        self, request: pb.DeletePrefixRequest, _peer: Peer
    ) -> pb.DeletePrefixResponse:
        space = _space(request.namespace)
        gone = await self._write(
            lambda tx: prefixes.delete_prefix(tx, request.cidr, namespace=space)
        )
        return pb.DeletePrefixResponse(prefix=_prefix(gone))

    async def get_prefix(self, request: pb.GetPrefixRequest, _peer: Peer) -> pb.GetPrefixResponse:
        space = _space(request.namespace)
        found = await self._store.read(
            lambda reader: prefixes.get_prefix(reader, request.cidr, namespace=space)
        )
        return pb.GetPrefixResponse(prefix=_prefix(found))

    async def list_prefixes(
        self, request: pb.ListPrefixesRequest, _peer: Peer
    ) -> pb.ListPrefixesResponse:
        space = _space(request.namespace)

        async def view(reader: Reader) -> list[Prefix]:
            await namespaces.check_namespace(reader, space)
            return await prefixes.list_prefixes(reader, namespace=space)

        found = await self._store.read(view)
        return pb.ListPrefixesResponse(prefixes=[_prefix(each) for each in found])

    async def prefix_usage(
        self, request: pb.PrefixUsageRequest, _peer: Peer
    ) -> pb.PrefixUsageResponse:
        space = _space(request.namespace)
        used = await self._store.read(
            lambda reader: prefixes.usage(reader, request.cidr, namespace=space)
        )
        return pb.PrefixUsageResponse(
            available_ips=used.available_ips,
            acquired_ips=used.acquired_ips,
            available_smallest_prefixes=used.available_smallest_prefixes,
            available_prefixes=used.available_prefixes,
            acquired_prefixes=used.acquired_prefixes,
        )

    async def acquire_child(
        self, request: pb.AcquireChildPrefixRequest, _peer: Peer
    ) -> pb.AcquireChildPrefixResponse:
        space = _space(request.namespace)
        made = await self._write(
            lambda tx: prefixes.acquire_child(
                tx,
                request.cidr,
                None if request.child_cidr else request.length,
                child=request.child_cidr or None,
                namespace=space,
            )
        )
        return pb.AcquireChildPrefixResponse(prefix=_prefix(made))

    async def release_child(
        self, request: pb.ReleaseChildPrefixRequest, _peer: Peer
    ) -> pb.ReleaseChildPrefixResponse:
        space = _space(request.namespace)
        gone = await self._write(
            lambda tx: prefixes.release_child(tx, request.cidr, namespace=space)
        )
        return pb.ReleaseChildPrefixResponse(prefix=_prefix(gone))

    async def acquire_ip(self, request: pb.AcquireIPRequest, _peer: Peer) -> pb.AcquireIPResponse:
        space = _space(request.namespace)
        try:
            got = await (self._certain(request, space) if request.ip else self._any(request, space))
        except NotFoundError as error:
            if await self._is_known(request.prefix_cidr, space):
                raise
            # Clients take "not found" for "none left" and go on to the next prefix.
            raise InvalidArgumentError(str(error), remedy=error.remedy) from error
        return pb.AcquireIPResponse(ip=_address(got), namespace=request.namespace)

    async def release_ip(self, request: pb.ReleaseIPRequest, _peer: Peer) -> pb.ReleaseIPResponse:
        space = _space(request.namespace)
        gone = await self._write(
            lambda tx: addresses.release_address(
                tx, request.prefix_cidr, request.ip, namespace=space
            )
        )
        return pb.ReleaseIPResponse(ip=_address(gone))

    async def dump(self, request: pb.DumpRequest, _peer: Peer) -> pb.DumpResponse:
        space = _space(request.namespace)
        text = await self._store.read(lambda reader: dump.dump(reader, namespace=space))
        return pb.DumpResponse(dump=text)

    async def load(self, request: pb.LoadRequest, _peer: Peer) -> pb.LoadResponse:
        space = _space(request.namespace)
        await self._write(lambda tx: dump.load(tx, request.dump, namespace=space))
        return pb.LoadResponse()

    async def create_namespace(
        self, request: pb.CreateNamespaceRequest, _peer: Peer
    ) -> pb.CreateNamespaceResponse:
        await self._write(lambda tx: namespaces.create_namespace(tx, request.namespace))
        return pb.CreateNamespaceResponse()

    async def list_namespaces(
        self, _request: pb.ListNamespacesRequest, _peer: Peer
    ) -> pb.ListNamespacesResponse:
        names = await self._store.read(namespaces.list_namespaces)
        return pb.ListNamespacesResponse(namespace=[name or namespaces.ROOT_NAME for name in names])

    async def delete_namespace(
        self, request: pb.DeleteNamespaceRequest, _peer: Peer
    ) -> pb.DeleteNamespaceResponse:
        space = _space(request.namespace)
        await self._write(lambda tx: namespaces.delete_namespace(tx, space))
        return pb.DeleteNamespaceResponse()

    async def _any(self, request: pb.AcquireIPRequest, namespace: str) -> Address:
        try:
            return await self._desk.acquire(request.prefix_cidr, namespace=namespace)
        except ResourceExhaustedError as error:
            raise NotFoundError(str(error), remedy=error.remedy) from error
        except FailedPreconditionError as error:
            raise InvalidArgumentError(str(error), remedy=error.remedy) from error

    async def _certain(self, request: pb.AcquireIPRequest, namespace: str) -> Address:
        return await self._write(
            lambda tx: addresses.acquire_address(
                tx, request.prefix_cidr, request.ip, namespace=namespace
            )
        )

    async def _write(self, change: Callable[[Transaction], Awaitable[ResultT]]) -> ResultT:
        try:
            return await self._store.write(change, serial=False)
        except (FailedPreconditionError, ResourceExhaustedError) as error:
            raise InvalidArgumentError(str(error), remedy=error.remedy) from error

    async def _is_known(self, cidr: str, namespace: str) -> bool:
        try:
            await self._store.read(
                lambda reader: prefixes.get_prefix(reader, cidr, namespace=namespace)
            )
        except NotFoundError:
            return False
        return True


def _space(name: str) -> str:
    if not is_storable(name):
        raise NotFoundError(f"namespace {name!r} not found", remedy="List what there is.")
    return namespaces.ROOT if name == namespaces.ROOT_NAME else name


def _prefix(prefix: Prefix) -> pb.Prefix:
    return pb.Prefix(cidr=prefix.cidr, parent_cidr=prefix.parent)


def _address(address: Address) -> pb.IP:
    return pb.IP(ip=address.address, parent_prefix=address.prefix)


async def _version(_request: pb.VersionRequest, _peer: Peer) -> pb.VersionResponse:
    program = f"v{version('metropolis')}"
    return pb.VersionResponse(version=program, revision=f"metropolis-{program}")


def ipam_services(store: Store, desk: AddressDesk) -> Services:
    """Return the service of the address books."""
    services, handlers = Services(), _Ipam(store, desk)
    services.unary(IpamService.CREATE_PREFIX, handlers.create_prefix)
    services.unary(IpamService.DELETE_PREFIX, handlers.delete_prefix)
    services.unary(IpamService.GET_PREFIX, handlers.get_prefix)
    services.unary(IpamService.LIST_PREFIXES, handlers.list_prefixes)
    services.unary(IpamService.PREFIX_USAGE, handlers.prefix_usage)
    services.unary(IpamService.ACQUIRE_CHILD_PREFIX, handlers.acquire_child)
    services.unary(IpamService.RELEASE_CHILD_PREFIX, handlers.release_child)
    services.unary(IpamService.ACQUIRE_IP, handlers.acquire_ip)
    services.unary(IpamService.RELEASE_IP, handlers.release_ip)
    services.unary(IpamService.DUMP, handlers.dump)
    services.unary(IpamService.LOAD, handlers.load)
    services.unary(IpamService.CREATE_NAMESPACE, handlers.create_namespace)
    services.unary(IpamService.LIST_NAMESPACES, handlers.list_namespaces)
    services.unary(IpamService.DELETE_NAMESPACE, handlers.delete_namespace)
    services.unary(IpamService.VERSION, _version)
    return services


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamServing:
    """Where and with what the address books are served.

    Attributes:
        endpoint: TCP port 0 for any that is free.
    """

    endpoint: Endpoint
    tls: MutualTls


async def serve(
    serving: IpamServing,
    store: Store,
    *,
    entropy: Entropy,
    stop: asyncio.Event,
    started: Callable[[Endpoint], None] = lambda _endpoint: None,
) -> None:
    """Serve until `stop` is set.

    Args:
        started: Called with the endpoint once it can be reached.

    Raises:
        InvalidArgumentError: the certificate, the key or the authority cannot be used.
        UnavailableError: the endpoint cannot be bound.
    """
    async with (
        open_desk(store, entropy) as desk,
        serve_mutual(
            serving.endpoint, tls=serving.tls, services=ipam_services(store, desk)
        ) as server,
    ):
        started(server.endpoint)
        await stop.wait()
