# SPDX-License-Identifier: Apache-2.0
"""Operations on tenants."""

from typing import Final

from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError
from metropolis.metal.access.caller import Caller
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.masterdata import entities, tenants
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import TENANTS, Tenant
from metropolis.metal.model.masterdata import (
    TenantCreateRequest,
    TenantFindRequest,
    TenantResponse,
    TenantUpdateRequest,
)
from metropolis.metal.store import Stored, Transaction


async def _list(call: Call[Nothing, Nothing]) -> list[TenantResponse]:
    page = await call.site.store.read(tenants.find_tenants)
    return [TenantResponse.of(each.value) for each in page.entities]


async def _find(call: Call[TenantFindRequest, Nothing]) -> list[TenantResponse]:
    body = call.body
    wanted = Filter(
        id=body.id,
        facets={"name": body.name},
        annotations=body.annotations or {},
        labels=body.labels or (),
    )
    paging = None if body.paging is None else body.paging.stored()
    page = await call.site.store.read(lambda reader: tenants.find_tenants(reader, wanted, paging))
    return [TenantResponse.of(each.value) for each in page.entities]


async def _get(call: Call[Nothing, Nothing]) -> TenantResponse:
    found = await call.site.store.read(lambda reader: tenants.get_tenant(reader, call.path["id"]))
    return TenantResponse.of(found.value)


async def _create(call: Call[TenantCreateRequest, Nothing]) -> TenantResponse:
    _check_not_confined(call.caller)
    tenant = entities.identified(call.body.stored(), call.site.entropy)
    created = await call.site.store.write(lambda tx: tenants.create_tenant(tx, tenant))
    return TenantResponse.of(created.value)


async def _update(call: Call[TenantUpdateRequest, Nothing]) -> TenantResponse:
    _check_not_confined(call.caller)
    body = call.body
    if body.meta is None or not body.meta.id:
        raise InvalidArgumentError(
            "meta.id of the tenant is missing", remedy="Say which tenant is to be changed."
        )
    key = body.meta.id

    async def change(tx: Transaction) -> Stored[Tenant]:
        old = await tenants.get_tenant(tx, key)
        return await tenants.update_tenant(tx, body.stored(old.value))

    return TenantResponse.of((await call.site.store.write(change)).value)


async def _delete(call: Call[Nothing, Nothing]) -> TenantResponse:
    _check_not_confined(call.caller)
    deleted = await call.site.store.write(lambda tx: tenants.delete_tenant(tx, call.path["id"]))
    return TenantResponse.of(deleted)


def _check_not_confined(caller: Caller) -> None:
    if caller.projects is not None:
        raise PermissionDeniedError(
            "you may not change tenants", remedy="Use a token that is not confined to projects."
        )


OPERATIONS: Final = (
    Operation[Nothing, Nothing](
        id="listTenants",
        method="GET",
        path="/v1/tenant",
        role=Role.VIEW,
        summary="get all tenants",
        handle=_list,
        answer=list[TenantResponse],
        depends_on=(TENANTS,),
        tag="tenant",
    ),
    Operation[TenantUpdateRequest, Nothing](
        id="updateTenant",
        method="POST",
        path="/v1/tenant",
        role=Role.ADMIN,
        summary="update a tenant. optimistic lock error can occur.",
        handle=_update,
        answer=TenantResponse,
        body=TenantUpdateRequest,
        errors=(404, 412),
        tag="tenant",
    ),
    Operation[TenantCreateRequest, Nothing](
        id="createTenant",
        method="PUT",
        path="/v1/tenant",
        role=Role.ADMIN,
        summary="create a tenant. if the given ID already exists a conflict is returned",
        handle=_create,
        answer=TenantResponse,
        body=TenantCreateRequest,
        status=201,
        errors=(409,),
        tag="tenant",
    ),
    Operation[TenantFindRequest, Nothing](
        id="findTenants",
        method="POST",
        path="/v1/tenant/find",
        role=Role.VIEW,
        summary="get all tenants that match given properties",
        handle=_find,
        answer=list[TenantResponse],
        body=TenantFindRequest,
        audited=False,
        tag="tenant",
    ),
    Operation[Nothing, Nothing](
        id="deleteTenant",
        method="DELETE",
        path="/v1/tenant/{id}",
        role=Role.ADMIN,
        summary="deletes a tenant and returns the deleted entity",
        handle=_delete,
        answer=TenantResponse,
        errors=(404,),
        tag="tenant",
    ),
    Operation[Nothing, Nothing](
        id="getTenant",
        method="GET",
        path="/v1/tenant/{id}",
        role=Role.VIEW,
        summary="get tenant by id",
        handle=_get,
        answer=TenantResponse,
        errors=(404,),
        depends_on=(TENANTS,),
        tag="tenant",
    ),
)
