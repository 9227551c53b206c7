# SPDX-License-Identifier: Apache-2.0
"""The operations on addresses of projects."""

from typing import Any

from metropolis.metal.http.confinement import check_named
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.ip import (
    IPS,
    IPAllocateRequest,
    IPFindRequest,
    IPResponse,
    IPUpdateRequest,
)
from metropolis.metal.rules.addresses import parse_address
from metropolis.metal.services import ips
from metropolis.metal.services.ips import ip_response
from metropolis.metal.store import Reader, Transaction


async def _list(call: Call[Nothing, Nothing]) -> list[IPResponse]:
    found = await call.site.store.read(lambda reader: reader.find(IPS))
    return [ip_response(each) for each in found if call.caller.sees(each.value.project_id)]


async def _find(call: Call[IPFindRequest, Nothing]) -> list[IPResponse]:
    found = await call.site.store.read(lambda reader: ips.find_ips(reader, call.body))
    return [ip_response(each) for each in found if call.caller.sees(each.value.project_id)]


async def _check_sight(call: Call[Any, Any], reader: Reader, address: str) -> IPResponse:
    """Read an address that this caller may see."""
    ip = await reader.get(IPS, str(parse_address(address, field="ip")))
    call.caller.check_sight(ip.value.project_id, f"ip with id {ip.id!r}")
    return ip_response(ip)


async def _get(call: Call[Nothing, Nothing]) -> IPResponse:
    return await call.site.store.read(lambda reader: _check_sight(call, reader, call.path["id"]))


async def _update(call: Call[IPUpdateRequest, Nothing]) -> IPResponse:
    async def change(tx: Transaction) -> IPResponse:
        await _check_sight(call, tx, call.body.ipaddress)
        return ip_response(await ips.update_ip(tx, call.body))

    return await call.site.store.write(change)


async def _allocate(call: Call[IPAllocateRequest, Nothing]) -> IPResponse:
    call.caller.check_project(call.body.projectid)

    async def change(tx: Transaction) -> IPResponse:
        await check_named(
            call.caller, tx, networks=(call.body.networkid,), machine=call.body.machineid or ""
        )
        return ip_response(await ips.allocate_ip(tx, call.body, call.path.get("ip")))

    return await call.site.store.write(change)


async def _free(call: Call[Nothing, Nothing]) -> IPResponse:
    async def change(tx: Transaction) -> IPResponse:
        await _check_sight(call, tx, call.path["id"])
        return ip_response(await ips.free_ip(tx, call.path["id"]))

    return await call.site.store.write(change)


OPERATIONS: tuple[Operation[Any, Any], ...] = (
    Operation(
        id="listIPs",
        method="GET",
        path="/v1/ip",
        role=Role.VIEW,
        summary="get all ips",
        handle=_list,
        answer=list[IPResponse],
        depends_on=(IPS,),
        tag="ip",
    ),
    Operation(
        id="updateIP",
        method="POST",
        path="/v1/ip",
        role=Role.EDIT,
        summary="updates an ip; a static ip cannot become ephemeral",
        handle=_update,
        body=IPUpdateRequest,
        answer=IPResponse,
        errors=(409,),
        tag="ip",
    ),
    Operation(
        id="allocateIP",
        method="POST",
        path="/v1/ip/allocate",
        role=Role.EDIT,
        summary="allocate an ip in the given network",
        handle=_allocate,
        body=IPAllocateRequest,
        answer=IPResponse,
        status=201,
        errors=(409,),
        tag="ip",
    ),
    Operation(
        id="allocateSpecificIP",
        method="POST",
        path="/v1/ip/allocate/{ip}",
        role=Role.EDIT,
        summary="allocate a specific ip in the given network",
        handle=_allocate,
        body=IPAllocateRequest,
        answer=IPResponse,
        status=201,
        errors=(409,),
        tag="ip",
    ),
    Operation(
        id="findIPs",
        method="POST",
        path="/v1/ip/find",
        role=Role.VIEW,
        summary="get all ips that match given properties",
        handle=_find,
        body=IPFindRequest,
        answer=list[IPResponse],
        audited=False,
        depends_on=(IPS,),
        tag="ip",
    ),
    Operation(
        id="freeIP",
        method="DELETE",
        path="/v1/ip/free/{id}",
        role=Role.EDIT,
        summary="frees an ip",
        handle=_free,
        answer=IPResponse,
        tag="ip",
    ),
    Operation(
        id="findIP",
        method="GET",
        path="/v1/ip/{id}",
        role=Role.VIEW,
        summary="get ip by id",
        handle=_get,
        answer=IPResponse,
        depends_on=(IPS,),
        tag="ip",
    ),
)
