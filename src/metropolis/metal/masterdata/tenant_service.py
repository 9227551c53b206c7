# SPDX-License-Identifier: Apache-2.0
"""The gRPC service of tenants."""

from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.rpc_metal_masterdata import TenantService
from metropolis.host import Entropy
from metropolis.metal.masterdata import participations, tenants, wire
from metropolis.metal.masterdata.entities import identified
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import Tenant
from metropolis.metal.store import Store
from metropolis.rpc.channel import Services
from metropolis.rpc.peer import Peer


class _Tenants:
    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy

    async def create(self, request: pb.TenantCreateRequest, _peer: Peer) -> pb.TenantResponse:
        tenant = identified(wire.to_tenant(request.tenant), self._entropy)
        stored = await self._store.write(lambda tx: tenants.create_tenant(tx, tenant))
        return _answer(stored.value)

    async def update(self, request: pb.TenantUpdateRequest, _peer: Peer) -> pb.TenantResponse:
        tenant = wire.to_tenant(request.tenant)
        stored = await self._store.write(lambda tx: tenants.update_tenant(tx, tenant))
        return _answer(stored.value)

    async def delete(self, request: pb.TenantDeleteRequest, _peer: Peer) -> pb.TenantResponse:
        return _answer(await self._store.write(lambda tx: tenants.delete_tenant(tx, request.id)))

    async def get(self, request: pb.TenantGetRequest, _peer: Peer) -> pb.TenantResponse:
        stored = await self._store.read(lambda reader: tenants.get_tenant(reader, request.id))
        return _answer(stored.value)

    async def get_history(
        self, request: pb.TenantGetHistoryRequest, _peer: Peer
    ) -> pb.TenantResponse:
        at = wire.to_time(request.at)
        return _answer(
            await self._store.read(lambda reader: tenants.tenant_as_of(reader, request.id, at))
        )

    async def find(self, request: pb.TenantFindRequest, _peer: Peer) -> pb.TenantListResponse:
        wanted = Filter(
            id=wire.given(request, "id"),
            facets={"name": wire.given(request, "name")},
            annotations=dict(request.annotations),
            labels=tuple(request.labels),
        )
        paging = wire.to_paging(request.paging) if request.HasField("paging") else None
        page = await self._store.read(lambda reader: tenants.find_tenants(reader, wanted, paging))
        return pb.TenantListResponse(
            tenants=[wire.from_tenant(each.value) for each in page.entities],
            next_page=page.next_page,
        )

    async def list_members(
        self, request: pb.ListTenantMembersRequest, _peer: Peer
    ) -> pb.ListTenantMembersResponse:
        found = await self._store.read(
            lambda reader: participations.members_of(
                reader,
                request.tenant_id,
                namespace=request.namespace,
                include_inherited=_is_inherited_wanted(request),
            )
        )
        return pb.ListTenantMembersResponse(
            tenants=[wire.from_tenant_participation(each) for each in found]
        )

    async def find_projects(
        self, request: pb.FindParticipatingProjectsRequest, _peer: Peer
    ) -> pb.FindParticipatingProjectsResponse:
        found = await self._store.read(
            lambda reader: participations.projects_of(
                reader,
                request.tenant_id,
                namespace=request.namespace,
                include_inherited=_is_inherited_wanted(request),
            )
        )
        return pb.FindParticipatingProjectsResponse(
            projects=[wire.from_project_participation(each) for each in found]
        )

    async def find_tenants(
        self, request: pb.FindParticipatingTenantsRequest, _peer: Peer
    ) -> pb.FindParticipatingTenantsResponse:
        found = await self._store.read(
            lambda reader: participations.tenants_of(
                reader,
                request.tenant_id,
                namespace=request.namespace,
                include_inherited=_is_inherited_wanted(request),
            )
        )
        return pb.FindParticipatingTenantsResponse(
            tenants=[wire.from_tenant_participation(each) for each in found]
        )


def _answer(tenant: Tenant) -> pb.TenantResponse:
    return pb.TenantResponse(tenant=wire.from_tenant(tenant))


def _is_inherited_wanted(
    request: pb.ListTenantMembersRequest
    | pb.FindParticipatingProjectsRequest
    | pb.FindParticipatingTenantsRequest,
) -> bool:
    return request.include_inherited or not request.HasField("include_inherited")


def add_tenant_service(services: Services, store: Store, entropy: Entropy) -> None:
    """Serve tenants."""
    handlers = _Tenants(store, entropy)
    services.unary(TenantService.CREATE, handlers.create)
    services.unary(TenantService.UPDATE, handlers.update)
    services.unary(TenantService.DELETE, handlers.delete)
    services.unary(TenantService.GET, handlers.get)
    services.unary(TenantService.GET_HISTORY, handlers.get_history)
    services.unary(TenantService.FIND, handlers.find)
    services.unary(TenantService.LIST_TENANT_MEMBERS, handlers.list_members)
    services.unary(TenantService.FIND_PARTICIPATING_PROJECTS, handlers.find_projects)
    services.unary(TenantService.FIND_PARTICIPATING_TENANTS, handlers.find_tenants)
