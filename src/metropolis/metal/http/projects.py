# SPDX-License-Identifier: Apache-2.0
"""Operations on projects."""

from typing import Final

import msgspec

from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError
from metropolis.metal.access.caller import Caller
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.masterdata import entities, projects
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import PROJECTS, Project
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.masterdata import (
    ProjectCreateRequest,
    ProjectFindRequest,
    ProjectResponse,
    ProjectUpdateRequest,
    Quota,
    QuotaSet,
)
from metropolis.metal.services.projects import count_ips, count_machines, delete_unused_project
from metropolis.metal.store import Reader, Stored


async def _list(call: Call[Nothing, Nothing]) -> list[ProjectResponse]:
    page = await call.site.store.read(projects.find_projects)
    return _responses(call.caller, page.entities)


def _responses(caller: Caller, found: list[Stored[Project]]) -> list[ProjectResponse]:
    return [ProjectResponse.of(each.value) for each in found if caller.sees(each.id)]


async def _find(call: Call[ProjectFindRequest, Nothing]) -> list[ProjectResponse]:
    body = call.body
    wanted = Filter(
        id=body.id,
        facets={
            "name": body.name,
            "description": body.description,
            "tenant": body.tenant_id,
        },
        annotations=body.annotations or {},
        labels=body.labels or (),
    )
    paging = None if body.paging is None else body.paging.stored()
    page = await call.site.store.read(lambda reader: projects.find_projects(reader, wanted, paging))
    return _responses(call.caller, page.entities)


async def _get(call: Call[Nothing, Nothing]) -> ProjectResponse:
    key = call.path["id"]
    call.caller.check_sight(key, "project")

    async def view(reader: Reader) -> ProjectResponse:
        found = ProjectResponse.of((await projects.get_project(reader, key)).value)
        quotas = found.quotas or QuotaSet()
        used = msgspec.structs.replace(
            quotas,
            machine=_used(quotas.machine, await count_machines(reader, key)),
            ip=_used(quotas.ip, await count_ips(reader, key)),
        )
        return msgspec.structs.replace(found, quotas=used)

    return await call.site.store.read(view)


def _used(quota: Quota | None, count: int) -> Quota:
    return Quota(quota=None if quota is None else quota.quota, used=count)


async def _create(call: Call[ProjectCreateRequest, Nothing]) -> ProjectResponse:
    if call.caller.projects is not None:
        raise PermissionDeniedError(
            "you may not create projects", remedy="Use a token that is not confined to projects."
        )
    project = entities.identified(call.body.stored(), call.site.entropy)
    created = await call.site.store.write(lambda tx: projects.create_project(tx, project))
    return ProjectResponse.of(created.value)


async def _update(call: Call[ProjectUpdateRequest, Nothing]) -> ProjectResponse:
    project = call.body.stored()
    if not project.meta.id:
        raise InvalidArgumentError(
            "meta.id of the project is missing", remedy="Say which project is to be changed."
        )
    call.caller.check_sight(project.meta.id, "project")
    changed = await call.site.store.write(lambda tx: projects.update_project(tx, project))
    return ProjectResponse.of(changed.value)


async def _delete(call: Call[Nothing, Nothing]) -> ProjectResponse:
    key = call.path["id"]
    call.caller.check_sight(key, "project")
    deleted = await call.site.store.write(lambda tx: delete_unused_project(tx, key))
    return ProjectResponse.of(deleted)


OPERATIONS: Final = (
    Operation[Nothing, Nothing](
        id="listProjects",
        method="GET",
        path="/v1/project",
        role=Role.VIEW,
        summary="get all projects",
        handle=_list,
        answer=list[ProjectResponse],
        depends_on=(PROJECTS,),
        tag="project",
    ),
    Operation[ProjectUpdateRequest, Nothing](
        id="updateProject",
        method="POST",
        path="/v1/project",
        role=Role.ADMIN,
        summary="update a project. optimistic lock error can occur.",
        handle=_update,
        answer=ProjectResponse,
        body=ProjectUpdateRequest,
        errors=(404, 412),
        tag="project",
    ),
    Operation[ProjectCreateRequest, Nothing](
        id="createProject",
        method="PUT",
        path="/v1/project",
        role=Role.ADMIN,
        summary="create a project. if the given ID already exists a conflict is returned",
        handle=_create,
        answer=ProjectResponse,
        body=ProjectCreateRequest,
        status=201,
        errors=(404, 409),
        tag="project",
    ),
    Operation[ProjectFindRequest, Nothing](
        id="findProjects",
        method="POST",
        path="/v1/project/find",
        role=Role.VIEW,
        summary="get all projects that match given properties",
        handle=_find,
        answer=list[ProjectResponse],
        body=ProjectFindRequest,
        audited=False,
        tag="project",
    ),
    Operation[Nothing, Nothing](
        id="deleteProject",
        method="DELETE",
        path="/v1/project/{id}",
        role=Role.ADMIN,
        summary="deletes a project and returns the deleted entity",
        handle=_delete,
        answer=ProjectResponse,
        errors=(404,),
        tag="project",
    ),
    Operation[Nothing, Nothing](
        id="findProject",
        method="GET",
        path="/v1/project/{id}",
        role=Role.VIEW,
        summary="get project by id",
        handle=_get,
        answer=ProjectResponse,
        errors=(404,),
        depends_on=(PROJECTS, MACHINES, IPS),
        tag="project",
    ),
)
