# SPDX-License-Identifier: Apache-2.0
"""The gRPC service of projects."""

from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.rpc_metal_masterdata import ProjectService
from metropolis.host import Entropy
from metropolis.metal.masterdata import projects, wire
from metropolis.metal.masterdata.entities import identified
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import Project
from metropolis.metal.store import Store
from metropolis.rpc.channel import Services
from metropolis.rpc.peer import Peer


class _Projects:
    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy

    async def create(self, request: pb.ProjectCreateRequest, _peer: Peer) -> pb.ProjectResponse:
        project = identified(wire.to_project(request.project), self._entropy)
        stored = await self._store.write(lambda tx: projects.create_project(tx, project))
        return _answer(stored.value)

    async def update(self, request: pb.ProjectUpdateRequest, _peer: Peer) -> pb.ProjectResponse:
        project = wire.to_project(request.project)
        stored = await self._store.write(lambda tx: projects.update_project(tx, project))
        return _answer(stored.value)

    async def delete(self, request: pb.ProjectDeleteRequest, _peer: Peer) -> pb.ProjectResponse:
        return _answer(await self._store.write(lambda tx: projects.delete_project(tx, request.id)))

    async def get(self, request: pb.ProjectGetRequest, _peer: Peer) -> pb.ProjectResponse:
        stored = await self._store.read(lambda reader: projects.get_project(reader, request.id))
        return _answer(stored.value)

    async def get_history(
        self, request: pb.ProjectGetHistoryRequest, _peer: Peer
    ) -> pb.ProjectResponse:
        at = wire.to_time(request.at)
        return _answer(
            await self._store.read(lambda reader: projects.project_as_of(reader, request.id, at))
        )

    async def find(self, request: pb.ProjectFindRequest, _peer: Peer) -> pb.ProjectListResponse:
        wanted = Filter(
            id=wire.given(request, "id"),
            facets={
                "name": wire.given(request, "name"),
                "description": wire.given(request, "description"),
                "tenant": wire.given(request, "tenant_id"),
            },
            annotations=dict(request.annotations),
            labels=tuple(request.labels),
        )
        paging = wire.to_paging(request.paging) if request.HasField("paging") else None
        page = await self._store.read(lambda reader: projects.find_projects(reader, wanted, paging))
        return pb.ProjectListResponse(
            projects=[wire.from_project(each.value) for each in page.entities],
            next_page=page.next_page,
        )


def _answer(project: Project) -> pb.ProjectResponse:
    return pb.ProjectResponse(project=wire.from_project(project))


def add_project_service(services: Services, store: Store, entropy: Entropy) -> None:
    """Serve projects."""
    handlers = _Projects(store, entropy)
    services.unary(ProjectService.CREATE, handlers.create)
    services.unary(ProjectService.UPDATE, handlers.update)
    services.unary(ProjectService.DELETE, handlers.delete)
    services.unary(ProjectService.GET, handlers.get)
    services.unary(ProjectService.GET_HISTORY, handlers.get_history)
    services.unary(ProjectService.FIND, handlers.find)
