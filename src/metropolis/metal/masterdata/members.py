# SPDX-License-Identifier: Apache-2.0
"""Memberships: of a tenant in a tenant, of a tenant in a project."""

from typing import Any

import msgspec

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.metal.masterdata import entities, findings
from metropolis.metal.masterdata.findings import Filter
from metropolis.metal.masterdata.model import (
    PROJECT_MEMBERS,
    PROJECTS,
    TENANT_MEMBERS,
    TENANTS,
    ProjectMember,
    TenantMember,
)
from metropolis.metal.store import Kind, Reader, Stored, Transaction


async def create_tenant_member(tx: Transaction, member: TenantMember) -> Stored[TenantMember]:
    """Make a tenant a member of another. The membership has an id (`entities.identified`).

    Raises:
        NotFoundError: one of the two tenants does not exist.
        AlreadyExistsError: the id is taken.
        InvalidArgumentError: its meta data says that it is something else.
    """
    await _check(tx, TENANTS, "tenant_id", member.tenant_id)
    await _check(tx, TENANTS, "member_id", member.member_id)
    return await entities.create(tx, TENANT_MEMBERS, member)


async def create_project_member(tx: Transaction, member: ProjectMember) -> Stored[ProjectMember]:
    """Make a tenant a member of a project. The membership has an id (`entities.identified`).

    Raises:
        NotFoundError: the tenant or the project does not exist.
        AlreadyExistsError: the id is taken.
        InvalidArgumentError: its meta data says that it is something else.
    """
    await _check(tx, TENANTS, "tenant_id", member.tenant_id)
    await _check(tx, PROJECTS, "project_id", member.project_id)
    return await entities.create(tx, PROJECT_MEMBERS, member)


async def _check(tx: Transaction, kind: Kind[Any], field: str, key: str) -> None:
    if await tx.lookup(kind, key) is None:
        raise NotFoundError(
            f"{field} {key!r} of the membership is no {kind.name}",
            remedy=f"Create the {kind.name} first, or name another one.",
        )


async def get_tenant_member(reader: Reader, key: str) -> Stored[TenantMember]:
    """Read one membership.

    Raises:
        NotFoundError: there is none.
    """
    return await reader.get(TENANT_MEMBERS, key)


async def get_project_member(reader: Reader, key: str) -> Stored[ProjectMember]:
    """Read one membership.

    Raises:
        NotFoundError: there is none.
    """
    return await reader.get(PROJECT_MEMBERS, key)


async def find_tenant_members(
    reader: Reader, wanted: Filter | None = None
) -> list[Stored[TenantMember]]:
    """Find memberships; facets are `tenant`, `member`, `namespace`."""
    return (await findings.find(reader, TENANT_MEMBERS, wanted or Filter())).entities


async def find_project_members(
    reader: Reader, wanted: Filter | None = None
) -> list[Stored[ProjectMember]]:
    """Find memberships; facets are `project`, `tenant`, `namespace`."""
    return (await findings.find(reader, PROJECT_MEMBERS, wanted or Filter())).entities


async def update_tenant_member(tx: Transaction, member: TenantMember) -> Stored[TenantMember]:
    """Replace a membership, whose two ends and namespace stay.

    Raises:
        NotFoundError: there is none.
        VersionConflictError: it was changed since `meta.version`.
        InvalidArgumentError: it names other ends, or its meta data something else.
    """
    old = await get_tenant_member(tx, member.meta.id)
    for name in ("tenant_id", "member_id", "namespace"):
        _refuse_change(old.id, name, getattr(old.value, name), getattr(member, name))
    kept = msgspec.structs.replace(old.value, meta=member.meta)
    return await entities.update(tx, old, kept)


async def update_project_member(tx: Transaction, member: ProjectMember) -> Stored[ProjectMember]:
    """Replace a membership, whose two ends and namespace stay.

    Raises:
        NotFoundError: there is none.
        VersionConflictError: it was changed since `meta.version`.
        InvalidArgumentError: it names other ends, or its meta data something else.
    """
    old = await get_project_member(tx, member.meta.id)
    for name in ("tenant_id", "project_id", "namespace"):
        _refuse_change(old.id, name, getattr(old.value, name), getattr(member, name))
    kept = msgspec.structs.replace(old.value, meta=member.meta)
    return await entities.update(tx, old, kept)


def _refuse_change(key: str, name: str, old: str, new: str) -> None:
    if new not in {"", old}:
        raise InvalidArgumentError(
            f"{name} of membership {key} is {old!r} and cannot be changed",
            remedy="Delete the membership and create another one.",
        )


async def delete_tenant_member(tx: Transaction, key: str) -> TenantMember:
    """End a membership.

    Raises:
        NotFoundError: there is none.
    """
    old = await get_tenant_member(tx, key)
    await entities.delete(tx, old)
    return old.value


async def delete_project_member(tx: Transaction, key: str) -> ProjectMember:
    """End a membership.

    Raises:
        NotFoundError: there is none.
    """
    old = await get_project_member(tx, key)
    await entities.delete(tx, old)
    return old.value


async def forget_tenant(tx: Transaction, tenant_id: str) -> None:
    """End all memberships of a tenant and in it."""
    both = {
        each.id: each
        for end in ("tenant", "member")
        for each in await tx.find(TENANT_MEMBERS, {end: tenant_id})
    }
    for each in both.values():
        await entities.delete(tx, each)
    for other in await tx.find(PROJECT_MEMBERS, {"tenant": tenant_id}):
        await entities.delete(tx, other)


async def forget_project(tx: Transaction, project_id: str) -> None:
    """End all memberships in a project."""
    for each in await tx.find(PROJECT_MEMBERS, {"project": project_id}):
        await entities.delete(tx, each)
