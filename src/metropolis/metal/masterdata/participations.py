# SPDX-License-Identifier: Apache-2.0
"""Who takes part in what: by a membership of their own, or by one in what it belongs to.

Direct memberships and inherited ones are merged by what they lead to; the annotations of each
kind of membership are kept apart, because roles stand in them.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from metropolis.metal.masterdata.model import (
    PROJECT_MEMBERS,
    PROJECTS,
    TENANT_MEMBERS,
    TENANTS,
    Project,
    Tenant,
)
from metropolis.metal.store import Kind, Reader

TargetT = TypeVar("TargetT", Project, Tenant)


@dataclass(slots=True, kw_only=True)
class ProjectParticipation:
    """A project in which a tenant takes part."""

    project: Project
    project_annotations: dict[str, str] = field(default_factory=dict[str, str])
    tenant_annotations: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True, kw_only=True)
class TenantParticipation:
    """A tenant in which another takes part, or that takes part in another.

    Attributes:
        project_ids: Through which it takes part, in order.
    """

    tenant: Tenant
    project_annotations: dict[str, str] = field(default_factory=dict[str, str])
    tenant_annotations: dict[str, str] = field(default_factory=dict[str, str])
    project_ids: list[str] = field(default_factory=list[str])


async def projects_of(
    reader: Reader, tenant_id: str, *, namespace: str = "", include_inherited: bool = True
) -> list[ProjectParticipation]:
    """Return the projects in which a tenant takes part, by id.

    Args:
        include_inherited: Also those of the tenants in which it is a member.
    """
    found: dict[str, ProjectParticipation] = {}
    for direct in await reader.find(PROJECT_MEMBERS, {"tenant": tenant_id, "namespace": namespace}):
        for project in await _named(reader, PROJECTS, direct.value.project_id):
            one = found.setdefault(project.meta.id, ProjectParticipation(project=project))
            one.project_annotations |= direct.value.meta.annotations
    if include_inherited:
        where = {"member": tenant_id, "namespace": namespace}
        for inherited in await reader.find(TENANT_MEMBERS, where):
            for each in await reader.find(PROJECTS, {"tenant": inherited.value.tenant_id}):
                one = found.setdefault(each.id, ProjectParticipation(project=each.value))
                one.tenant_annotations |= inherited.value.meta.annotations
    return [found[key] for key in sorted(found)]


async def tenants_of(
    reader: Reader, tenant_id: str, *, namespace: str = "", include_inherited: bool = True
) -> list[TenantParticipation]:
    """Return the tenants in which a tenant takes part, by id.

    Args:
        include_inherited: Also those in whose projects it is a member.
    """
    found: dict[str, TenantParticipation] = {}
    where = {"member": tenant_id, "namespace": namespace}
    for direct in await reader.find(TENANT_MEMBERS, where):
        for tenant in await _named(reader, TENANTS, direct.value.tenant_id):
            one = found.setdefault(tenant.meta.id, TenantParticipation(tenant=tenant))
            one.tenant_annotations |= direct.value.meta.annotations
    if include_inherited:
        where = {"tenant": tenant_id, "namespace": namespace}
        for inherited in await reader.find(PROJECT_MEMBERS, where):
            for project in await _named(reader, PROJECTS, inherited.value.project_id):
                for tenant in await _named(reader, TENANTS, project.tenant_id):
                    one = found.setdefault(tenant.meta.id, TenantParticipation(tenant=tenant))
                    one.project_annotations |= inherited.value.meta.annotations
    return [found[key] for key in sorted(found)]


async def members_of(
    reader: Reader, tenant_id: str, *, namespace: str = "", include_inherited: bool = True
) -> list[TenantParticipation]:
    """Return the tenants that take part in a tenant, by id.

    Args:
        include_inherited: Also those that are members of its projects, naming these.
    """
    found: dict[str, TenantParticipation] = {}
    where = {"tenant": tenant_id, "namespace": namespace}
    for direct in await reader.find(TENANT_MEMBERS, where):
        for tenant in await _named(reader, TENANTS, direct.value.member_id):
            one = found.setdefault(tenant.meta.id, TenantParticipation(tenant=tenant))
            one.tenant_annotations |= direct.value.meta.annotations
    if include_inherited:
        for project in await reader.find(PROJECTS, {"tenant": tenant_id}):
            where = {"project": project.id, "namespace": namespace}
            for inherited in await reader.find(PROJECT_MEMBERS, where):
                for tenant in await _named(reader, TENANTS, inherited.value.tenant_id):
                    one = found.setdefault(tenant.meta.id, TenantParticipation(tenant=tenant))
                    one.project_ids.append(project.id)
    return [found[key] for key in sorted(found)]


async def _named(reader: Reader, kind: Kind[TargetT], key: str) -> list[TargetT]:
    """Read one entity, or none."""
    found = await reader.lookup(kind, key)
    return [] if found is None else [found.value]
