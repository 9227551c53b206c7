# SPDX-License-Identifier: Apache-2.0
"""Tenants."""

from datetime import datetime

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.masterdata import entities, findings, history
from metropolis.metal.masterdata.findings import Filter, Page, Paging
from metropolis.metal.masterdata.members import forget_tenant
from metropolis.metal.masterdata.model import PROJECTS, TENANTS, Tenant
from metropolis.metal.store import Reader, Stored, Transaction


async def create_tenant(tx: Transaction, tenant: Tenant) -> Stored[Tenant]:
    """Add a tenant that has an id (`entities.identified`).

    Raises:
        AlreadyExistsError: the id is taken.
        InvalidArgumentError: its meta data says that it is something else.
    """
    return await entities.create(tx, TENANTS, tenant)


async def get_tenant(reader: Reader, tenant_id: str) -> Stored[Tenant]:
    """Read one tenant.

    Raises:
        NotFoundError: there is none.
    """
    return await reader.get(TENANTS, tenant_id)


async def find_tenants(
    reader: Reader, wanted: Filter | None = None, paging: Paging | None = None
) -> Page[Tenant]:
    """Find tenants; facets are `name`."""
    return await findings.find(reader, TENANTS, wanted or Filter(), paging)


async def update_tenant(tx: Transaction, tenant: Tenant) -> Stored[Tenant]:
    """Replace a tenant.

    Raises:
        NotFoundError: there is none.
        VersionConflictError: it was changed since `meta.version`.
        InvalidArgumentError: its meta data says that it is something else.
    """
    return await entities.update(tx, await get_tenant(tx, tenant.meta.id), tenant)


async def delete_tenant(tx: Transaction, tenant_id: str) -> Tenant:
    """Remove a tenant and its memberships.

    Raises:
        NotFoundError: there is none.
        FailedPreconditionError: it has projects.
    """
    old = await get_tenant(tx, tenant_id)
    count = await tx.count(PROJECTS, {"tenant": tenant_id})
    if count:
        raise FailedPreconditionError(
            f"tenant {tenant_id} has {count} projects", remedy="Delete its projects first."
        )
    await forget_tenant(tx, tenant_id)
    await entities.delete(tx, old)
    return old.value


async def tenant_as_of(reader: Reader, tenant_id: str, at: datetime) -> Tenant:
    """Return what a tenant was at a moment.

    Raises:
        NotFoundError: there was none yet.
    """
    return await history.as_of(reader, TENANTS, tenant_id, at)
