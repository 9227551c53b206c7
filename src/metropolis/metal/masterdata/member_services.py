# SPDX-License-Identifier: Apache-2.0
"""The gRPC services of memberships: in tenants, in projects."""

from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.rpc_metal_masterdata import ProjectMemberService, TenantMemberService
from metropolis.host import Entropy
from metropolis.metal.masterdata import members, wire
from metropolis.metal.masterdata.entities import identified
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import ProjectMember, TenantMember
from metropolis.metal.store import Store
from metropolis.rpc.channel import Services
from metropolis.rpc.peer import Peer


class _TenantMembers:
    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy

    async def create(
        self, request: pb.TenantMemberCreateRequest, _peer: Peer
    ) -> pb.TenantMemberResponse:
        member = identified(wire.to_tenant_member(request.tenant_member), self._entropy)
        stored = await self._store.write(lambda tx: members.create_tenant_member(tx, member))
        return _tenant_member(stored.value)

    async def update(
        self, request: pb.TenantMemberUpdateRequest, _peer: Peer
    ) -> pb.TenantMemberResponse:
        member = wire.to_tenant_member(request.tenant_member)
        stored = await self._store.write(lambda tx: members.update_tenant_member(tx, member))
        return _tenant_member(stored.value)

    async def delete(
        self, request: pb.TenantMemberDeleteRequest, _peer: Peer
    ) -> pb.TenantMemberResponse:
        return _tenant_member(
            await self._store.write(lambda tx: members.delete_tenant_member(tx, request.id))
        )

    async def get(self, request: pb.TenantMemberGetRequest, _peer: Peer) -> pb.TenantMemberResponse:
        stored = await self._store.read(
            lambda reader: members.get_tenant_member(reader, request.id)
        )
        return _tenant_member(stored.value)

    async def find(
        self, request: pb.TenantMemberFindRequest, _peer: Peer
    ) -> pb.TenantMemberListResponse:
        wanted = Filter(
            facets={
                "tenant": wire.given(request, "tenant_id"),
                "member": wire.given(request, "member_id"),
                "namespace": request.namespace,
            },
            annotations=dict(request.annotations),
        )
        found = await self._store.read(lambda reader: members.find_tenant_members(reader, wanted))
        return pb.TenantMemberListResponse(
            tenant_members=[wire.from_tenant_member(each.value) for each in found]
        )


class _ProjectMembers:
    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy

    async def create(
        self, request: pb.ProjectMemberCreateRequest, _peer: Peer
    ) -> pb.ProjectMemberResponse:
        member = identified(wire.to_project_member(request.project_member), self._entropy)
        stored = await self._store.write(lambda tx: members.create_project_member(tx, member))
        return _project_member(stored.value)

    async def update(
        self, request: pb.ProjectMemberUpdateRequest, _peer: Peer
    ) -> pb.ProjectMemberResponse:
        member = wire.to_project_member(request.project_member)
        stored = await self._store.write(lambda tx: members.update_project_member(tx, member))
        return _project_member(stored.value)

    async def delete(
        self, request: pb.ProjectMemberDeleteRequest, _peer: Peer
    ) -> pb.ProjectMemberResponse:
        return _project_member(
            await self._store.write(lambda tx: members.delete_project_member(tx, request.id))
        )

    async def get(
        self, request: pb.ProjectMemberGetRequest, _peer: Peer
    ) -> pb.ProjectMemberResponse:
        stored = await self._store.read(
            lambda reader: members.get_project_member(reader, request.id)
        )
        return _project_member(stored.value)

    async def find(
        self, request: pb.ProjectMemberFindRequest, _peer: Peer
    ) -> pb.ProjectMemberListResponse:
        wanted = Filter(
            facets={
                "project": wire.given(request, "project_id"),
                "tenant": wire.given(request, "tenant_id"),
                "namespace": request.namespace,
            },
            annotations=dict(request.annotations),
        )
        found = await self._store.read(lambda reader: members.find_project_members(reader, wanted))
        return pb.ProjectMemberListResponse(
            project_members=[wire.from_project_member(each.value) for each in found]
        )


def _tenant_member(member: TenantMember) -> pb.TenantMemberResponse:
    return pb.TenantMemberResponse(tenant_member=wire.from_tenant_member(member))


def _project_member(member: ProjectMember) -> pb.ProjectMemberResponse:
    return pb.ProjectMemberResponse(project_member=wire.from_project_member(member))


def add_member_services(services: Services, store: Store, entropy: Entropy) -> None:
    """Serve memberships."""
    in_tenants = _TenantMembers(store, entropy)
    services.unary(TenantMemberService.CREATE, in_tenants.create)
    services.unary(TenantMemberService.UPDATE, in_tenants.update)
    services.unary(TenantMemberService.DELETE, in_tenants.delete)
    services.unary(TenantMemberService.GET, in_tenants.get)
    services.unary(TenantMemberService.FIND, in_tenants.find)
    in_projects = _ProjectMembers(store, entropy)
    services.unary(ProjectMemberService.CREATE, in_projects.create)
    services.unary(ProjectMemberService.UPDATE, in_projects.update)
    services.unary(ProjectMemberService.DELETE, in_projects.delete)
    services.unary(ProjectMemberService.GET, in_projects.get)
    services.unary(ProjectMemberService.FIND, in_projects.find)
