# SPDX-License-Identifier: Apache-2.0
"""Create, change and delete any entity of masterdata: versions and history are the same for all."""

from typing import ClassVar, TypeVar
from uuid import UUID

import msgspec

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.host import Entropy
from metropolis.metal.masterdata.history import remember
from metropolis.metal.masterdata.model import (
    API_VERSION,
    Master,
    Meta,
    Project,
    ProjectMember,
    Tenant,
    TenantMember,
)
from metropolis.metal.store import Kind, Stored, Transaction

MasterT = TypeVar("MasterT", Tenant, Project, TenantMember, ProjectMember)
_UUID_RANDOM = 4


class VersionConflictError(FailedPreconditionError):
    """The entity was changed since the caller read it."""

    http_status: ClassVar[int] = 412


def identified(entity: MasterT, entropy: Entropy) -> MasterT:
    """Return an entity with an id: its own, or a new random UUID. Call it before a transaction."""
    if entity.meta.id:
        return entity
    new = str(UUID(bytes=entropy.token_bytes(16), version=_UUID_RANDOM))
    return msgspec.structs.replace(entity, meta=msgspec.structs.replace(entity.meta, id=new))


def title(entity: Master) -> str:
    """Return what `meta.kind` is called, "Project"."""
    return type(entity).__name__


async def create(tx: Transaction, kind: Kind[MasterT], entity: MasterT) -> Stored[MasterT]:
    """Add an entity that has an id.

    Raises:
        AlreadyExistsError: the id is taken.
        InvalidArgumentError: its meta data says that it is something else.
    """
    check_meta(entity)
    new = _with_meta(entity, version=0, created=tx.now, updated=None)
    stored = await tx.insert(kind, new.meta.id, new)
    await remember(tx, kind, new.meta.id, "C", new)
    return stored


async def update(tx: Transaction, old: Stored[MasterT], entity: MasterT) -> Stored[MasterT]:
    """Replace an entity that was read in this transaction.

    Raises:
        VersionConflictError: it is not made from the version that is stored.
        InvalidArgumentError: its meta data says that it is something else.
    """
    check_meta(entity)
    stored = old.value.meta
    if entity.meta.version != stored.version:
        raise VersionConflictError(
            f"optimistic lock: {old.kind.name} {old.id} has version {stored.version},"
            f" the change was made from version {entity.meta.version}",
            remedy="Read it again and send its meta.version back with the change.",
        )
    new = _with_meta(
        entity, version=stored.version + 1, created=stored.created_time, updated=tx.now
    )
    changed = await tx.replace(old, new)
    await remember(tx, old.kind, old.id, "U", new)
    return changed


async def delete(tx: Transaction, old: Stored[MasterT]) -> None:
    """Remove an entity that was read in this transaction; the history keeps it."""
    await tx.delete(old)
    await remember(tx, old.kind, old.id, "D", old.value)


def check_meta(entity: Master) -> None:
    """Check that an entity does not say that it is something else.

    Raises:
        InvalidArgumentError: it does, naming the field.
    """
    for name, value, wanted in (
        ("kind", entity.meta.kind, title(entity)),
        ("apiversion", entity.meta.apiversion, API_VERSION),
    ):
        if value not in {"", wanted}:
            raise InvalidArgumentError(
                f"meta.{name} is {value[:64]!r} but must be {wanted!r}",
                remedy=f"Leave meta.{name} out.",
            )


def _with_meta(entity: MasterT, *, version: int, created: object, updated: object) -> MasterT:
    meta: Meta = msgspec.structs.replace(
        entity.meta,
        kind=title(entity),
        apiversion=API_VERSION,
        version=version,
        created_time=created,
        updated_time=updated,
    )
    return msgspec.structs.replace(entity, meta=meta)
