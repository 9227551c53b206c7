# SPDX-License-Identifier: Apache-2.0
"""Projects, and how many a tenant may have."""

from datetime import datetime

import msgspec

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.metal.masterdata import entities, findings, history
from metropolis.metal.masterdata.findings import Filter, Page, Paging
from metropolis.metal.masterdata.members import forget_project
from metropolis.metal.masterdata.model import PROJECTS, TENANTS, Project, Tenant
from metropolis.metal.store import Reader, Stored, Transaction


async def create_project(tx: Transaction, project: Project) -> Stored[Project]:
    """Add a project that has an id (`entities.identified`); it gets its tenant's default quotas.

    Raises:
        InvalidArgumentError: it names no tenant, or its meta data says that it is something else.
        NotFoundError: there is no such tenant.
        FailedPreconditionError: the tenant may not have more projects.
        AlreadyExistsError: the id is taken.
    """
    entities.check_meta(project)
    if not project.tenant_id:
        raise InvalidArgumentError(
            "tenant_id of the project is missing", remedy="Name the tenant that owns the project."
        )
    tenant = await tx.lookup(TENANTS, project.tenant_id)
    if tenant is None:
        raise NotFoundError(
            f"tenant_id {project.tenant_id!r} of the project is no tenant",
            remedy="Create the tenant first, or name another one.",
        )
    await _check_quota(tx, tenant)
    if project.quotas is None:
        project = msgspec.structs.replace(project, quotas=tenant.value.default_quotas)
    return await entities.create(tx, PROJECTS, project)


async def _check_quota(tx: Transaction, tenant: Stored[Tenant]) -> None:
    quotas = tenant.value.quotas
    limit = None if quotas is None or quotas.project is None else quotas.project.max
    if limit is None:
        return
    count = await tx.count(PROJECTS, {"tenant": tenant.id})
    if count >= limit:
        raise FailedPreconditionError(
            f"tenant {tenant.id} has {count} projects and its project quota is {limit}",
            remedy="Delete a project of the tenant, or raise quotas.project of the tenant.",
        )


async def get_project(reader: Reader, project_id: str) -> Stored[Project]:
    """Read one project.

    Raises:
        NotFoundError: there is none.
    """
    return await reader.get(PROJECTS, project_id)


async def find_projects(
    reader: Reader, wanted: Filter | None = None, paging: Paging | None = None
) -> Page[Project]:
    """Find projects; facets are `name`, `description`, `tenant`."""
    return await findings.find(reader, PROJECTS, wanted or Filter(), paging)


async def update_project(tx: Transaction, project: Project) -> Stored[Project]:
    """Replace a project.

    Raises:
        NotFoundError: there is none.
        VersionConflictError: it was changed since `meta.version`.
        InvalidArgumentError: it names another tenant, or its meta data something else.
    """
    old = await get_project(tx, project.meta.id)
    if project.tenant_id not in {"", old.value.tenant_id}:
        raise InvalidArgumentError(
            f"tenant_id of project {old.id} is {old.value.tenant_id!r} and cannot be changed",
            remedy="Leave tenant_id as it is, or create another project.",
        )
    project = msgspec.structs.replace(project, tenant_id=old.value.tenant_id)
    return await entities.update(tx, old, project)


async def delete_project(tx: Transaction, project_id: str) -> Project:
    """Remove a project and its memberships. Whether anything uses it, the caller decides.

    Raises:
        NotFoundError: there is none.
    """
    old = await get_project(tx, project_id)
    await forget_project(tx, project_id)
    await entities.delete(tx, old)
    return old.value


async def project_as_of(reader: Reader, project_id: str, at: datetime) -> Project:
    """Return what a project was at a moment.

    Raises:
        NotFoundError: there was none yet.
    """
    return await history.as_of(reader, PROJECTS, project_id, at)
