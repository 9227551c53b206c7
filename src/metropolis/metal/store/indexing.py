# SPDX-License-Identifier: Apache-2.0
"""Brings facets in line with the code: after a release that finds by more, after a restore."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from metropolis.base.errors import DataLossError
from metropolis.metal.store.documents import facets_of
from metropolis.metal.store.interface import Kind, Store, Transaction

PAGE: Final = 500  # entities read in one go

_WRITE: Final = (
    "INSERT INTO facet (kind, name, value, id, is_unique) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT DO NOTHING"
)
_NOTE: Final = (
    "INSERT INTO indexed_kind (kind, facets) VALUES ($1, $2)"
    " ON CONFLICT (kind) DO UPDATE SET facets = excluded.facets"
)


async def index_kinds(store: Store, kinds: Sequence[Kind[Any]]) -> list[str]:
    """Rewrite the facets of the kinds whose names of facets are not those they were written by.

    A facet that means something else than it did needs a new name.

    Returns:
        The names of the kinds that were rewritten.

    Raises:
        DataLossError: a stored document cannot be read, or two share what must be unique.
    """

    async def outdated(tx: Transaction) -> list[Kind[Any]]:
        known = dict(await tx.fetch("SELECT kind, facets FROM indexed_kind"))
        return [kind for kind in kinds if known.get(kind.name) != _description(kind)]

    rewritten = await store.write(outdated)
    for kind in rewritten:
        await store.write(lambda tx, kind=kind: _rewrite(tx, kind))  # type: ignore[misc]
    return [kind.name for kind in rewritten]


def _description(kind: Kind[Any]) -> str:
    names = [name + ("!" if name in kind.unique else "") for name in sorted(kind.facets)]
    return msgspec.json.encode(names).decode()


async def _rewrite(tx: Transaction, kind: Kind[Any]) -> None:
    await tx.execute("DELETE FROM facet WHERE kind = $1", kind.name)
    after: str | None = None
    while page := await tx.find(kind, after=after, limit=PAGE):
        for each in page:
            for facet in facets_of(kind, each.value):
                written = await tx.execute(
                    _WRITE, kind.name, facet.name, facet.value, each.id, facet.is_unique
                )
                if not written:
                    raise DataLossError(
                        f"{kind.name} {each.id!r} shares its {facet.name} {facet.value!r}"
                        " with another one",
                        remedy="Restore a backup of before; or delete one of the two with the"
                        " release that wrote them.",
                    )
        after = page[-1].id
    await tx.execute(_NOTE, kind.name, _description(kind))
