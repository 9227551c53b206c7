# SPDX-License-Identifier: Apache-2.0
"""What every entity of masterdata was, since it was created."""

from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.metal.masterdata.model import Project, ProjectMember, Tenant, TenantMember
from metropolis.metal.store import Kind, Reader, Transaction
from metropolis.metal.store.documents import is_storable

MasterT = TypeVar("MasterT", Tenant, Project, TenantMember, ProjectMember)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def remember(
    tx: Transaction,
    kind: Kind[MasterT],
    key: str,
    operation: Literal["C", "U", "D"],
    value: MasterT,
) -> None:
    """Write down what an entity is now, or was when it was deleted."""
    await tx.execute(
        "INSERT INTO masterdata_history (kind, id, number, at, operation, doc)"
        " SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5"
        " FROM masterdata_history WHERE kind = $1 AND id = $2",
        kind.name,
        key,
        _microseconds(tx.now),
        operation,
        msgspec.json.encode(value).decode(),
    )


async def as_of(reader: Reader, kind: Kind[MasterT], key: str, at: datetime) -> MasterT:
    """Return what an entity was at a moment; after its deletion, what it was last.

    Raises:
        NotFoundError: there was none yet.
        InvalidArgumentError: the moment names no time zone.
    """
    if at.tzinfo is None:
        raise InvalidArgumentError("at names no time zone", remedy="Add one, like Z.")
    rows = is_storable(key) and await reader.fetch(
        "SELECT doc FROM masterdata_history WHERE kind = $1 AND id = $2 AND at <= $3"
        " ORDER BY at DESC, number DESC LIMIT 1",
        kind.name,
        key,
        _microseconds(at),
    )
    for (doc,) in rows or ():
        return msgspec.json.decode(doc, type=kind.type)
    raise NotFoundError(
        f"there was no {kind.name} {key!r} at {at.isoformat()}",
        remedy="Check the id, or name a later moment.",
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
