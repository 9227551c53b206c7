# SPDX-License-Identifier: Apache-2.0
"""The operations on networks."""

from collections.abc import Iterable
from typing import Any

import msgspec

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.ids import new_uuid7
from metropolis.metal.model.network import (
    NETWORKS,
    Network,
    NetworkAllocateRequest,
    NetworkCreateRequest,
    NetworkFindRequest,
    NetworkResponse,
    NetworkUpdateRequest,
)
from metropolis.metal.services import networks
from metropolis.metal.services.network_usage import (
    consumption,
    find_networks,
    network_response,
)
from metropolis.metal.store import Reader, Stored, Transaction


class UpdateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whether additional announcable CIDRs may be taken away."""

    force: bool = False


def _visible(call: Call[Any, Any], network: Network) -> bool:
    """Whether a caller that is confined to projects may see a network: all that it could use."""
    return (
        not network.project_id
        or network.shared
        or network.private_super
        or call.caller.sees(network.project_id)
    )


async def _answers(
    call: Call[Any, Any], reader: Reader, found: Iterable[Stored[Network]]
) -> list[NetworkResponse]:
    return [
        network_response(each, await consumption(reader, each.value))
        for each in found
        if _visible(call, each.value)
    ]


async def _list(call: Call[Nothing, Nothing]) -> list[NetworkResponse]:
    async def view(reader: Reader) -> list[NetworkResponse]:
        return await _answers(call, reader, await reader.find(NETWORKS))

    return await call.site.store.read(view)


async def _find(call: Call[NetworkFindRequest, Nothing]) -> list[NetworkResponse]:
    async def view(reader: Reader) -> list[NetworkResponse]:
        return await _answers(call, reader, await find_networks(reader, call.body))

    return await call.site.store.read(view)


async def _get(call: Call[Nothing, Nothing]) -> NetworkResponse:
    async def view(reader: Reader) -> NetworkResponse:
        network = await reader.get(NETWORKS, call.path["id"])
        if not _visible(call, network.value):
            call.caller.check_sight(network.value.project_id, f"network with id {network.id!r}")
        return network_response(network, await consumption(reader, network.value))

    return await call.site.store.read(view)


def _new_id(call: Call[Any, Any]) -> str:
    return new_uuid7(call.site.clock.wall(), call.site.entropy.token_bytes(10))


async def _create(call: Call[NetworkCreateRequest, Nothing]) -> NetworkResponse:
    network_id = call.body.id or _new_id(call)

    async def change(tx: Transaction) -> NetworkResponse:
        network = await networks.create_network(tx, network_id, call.body)
        return network_response(network, await consumption(tx, network.value))

    return await call.site.store.write(change)


async def _update(call: Call[NetworkUpdateRequest, UpdateQuery]) -> NetworkResponse:
    async def change(tx: Transaction) -> NetworkResponse:
        network = await networks.update_network(tx, call.body, force=call.query.force)
        return network_response(network, await consumption(tx, network.value))

    return await call.site.store.write(change)


async def _allocate(call: Call[NetworkAllocateRequest, Nothing]) -> NetworkResponse:
    if call.body.projectid:
        call.caller.check_project(call.body.projectid)
    network_id = _new_id(call)

    async def change(tx: Transaction) -> NetworkResponse:
        network = await networks.allocate_network(tx, network_id, call.body)
        return network_response(network, await consumption(tx, network.value))

    return await call.site.store.write(change)


async def _free(call: Call[Nothing, Nothing]) -> NetworkResponse:
    async def change(tx: Transaction) -> NetworkResponse:
        network = await tx.get(NETWORKS, call.path["id"])
        call.caller.check_sight(network.value.project_id, f"network with id {network.id!r}")
        used = await consumption(tx, network.value)
        return network_response(await networks.free_network(tx, network.id), used)

    return await call.site.store.write(change)


async def _delete(call: Call[Nothing, Nothing]) -> NetworkResponse:
    async def change(tx: Transaction) -> NetworkResponse:
        network = await tx.get(NETWORKS, call.path["id"])
        used = await consumption(tx, network.value)
        return network_response(await networks.delete_network(tx, network.id), used)

    return await call.site.store.write(change)


OPERATIONS: tuple[Operation[Any, Any], ...] = (
    Operation(
        id="listNetworks",
        method="GET",
        path="/v1/network",
        role=Role.VIEW,
        summary="get all networks",
        handle=_list,
        answer=list[NetworkResponse],
        tag="network",
    ),
    Operation(
        id="updateNetwork",
        method="POST",
        path="/v1/network",
        role=Role.ADMIN,
        summary="updates a network",
        handle=_update,
        body=NetworkUpdateRequest,
        query=UpdateQuery,
        answer=NetworkResponse,
        errors=(409,),
        tag="network",
    ),
    Operation(
        id="createNetwork",
        method="PUT",
        path="/v1/network",
        role=Role.ADMIN,
        summary="create a network; if the id is empty, one is generated",
        handle=_create,
        body=NetworkCreateRequest,
        answer=NetworkResponse,
        status=201,
        errors=(409,),
        tag="network",
    ),
    Operation(
        id="allocateNetwork",
        method="POST",
        path="/v1/network/allocate",
        role=Role.EDIT,
        summary="allocates a child network from a partition's private super network",
        handle=_allocate,
        body=NetworkAllocateRequest,
        answer=NetworkResponse,
        status=201,
        errors=(409,),
        tag="network",
    ),
    Operation(
        id="findNetworks",
        method="POST",
        path="/v1/network/find",
        role=Role.VIEW,
        summary="get all networks that match given properties",
        handle=_find,
        body=NetworkFindRequest,
        answer=list[NetworkResponse],
        audited=False,
        tag="network",
    ),
    Operation(
        id="freeNetwork",
        method="DELETE",
        path="/v1/network/free/{id}",
        role=Role.EDIT,
        summary="frees a child network",
        handle=_free,
        answer=NetworkResponse,
        errors=(409,),
        tag="network",
    ),
    Operation(
        id="freeNetworkDeprecated",
        method="POST",
        path="/v1/network/free/{id}",
        role=Role.EDIT,
        summary="frees a child network; deprecated, use DELETE",
        handle=_free,
        answer=NetworkResponse,
        errors=(409,),
        tag="network",
    ),
    Operation(
        id="deleteNetwork",
        method="DELETE",
        path="/v1/network/{id}",
        role=Role.ADMIN,
        summary="deletes a network and returns the deleted entity",
        handle=_delete,
        answer=NetworkResponse,
        tag="network",
    ),
    Operation(
        id="findNetwork",
        method="GET",
        path="/v1/network/{id}",
        role=Role.VIEW,
        summary="get network by id",
        handle=_get,
        answer=NetworkResponse,
        tag="network",
    ),
)
