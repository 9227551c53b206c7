# SPDX-License-Identifier: Apache-2.0
"""Brings facets in line with the code: after a release that finds by more, after a restore."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from metropolis.base.errors import DataLossError
from metropolis.metal.store.documents import Facet, facets_of
from metropolis.metal.store.interface import Kind, Store, Transaction

PAGE: Final = 500  # entities read in one go

_WRITE: Final = (
    "INSERT INTO facet (kind, name, value, id, is_unique) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT DO NOTHING"
)
_WRITE_MANY: Final = """
    INSERT INTO facet (kind, name, value, id, is_unique)
    SELECT $1, f.name, f.value, f.id, f.is_unique
    FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) AS f (name, value, id, is_unique)
    ON CONFLICT DO NOTHING"""
_HOLDER: Final = "SELECT id FROM facet WHERE kind = $1 AND name = $2 AND value = $3 AND is_unique"
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
        await store.write(lambda tx, kind=kind: _rewrite(tx, kind))  # type: ignore[misc]  # of a lambda
    return [kind.name for kind in rewritten]


def _description(kind: Kind[Any]) -> str:
    names = [name + ("!" if name in kind.unique else "") for name in sorted(kind.facets)]
    return msgspec.json.encode(names).decode()


async def _rewrite(tx: Transaction, kind: Kind[Any]) -> None:
    await tx.execute("DELETE FROM facet WHERE kind = $1", kind.name)
    after: str | None = None
    while page := await tx.find(kind, after=after, limit=PAGE):
        facets = [(facet, each.id) for each in page for facet in facets_of(kind, each.value)]
        if await _write(tx, kind, facets) < len(facets):
            await _refuse_shared(tx, kind, facets)
        after = page[-1].id
    await tx.execute(_NOTE, kind.name, _description(kind))


async def _write(tx: Transaction, kind: Kind[Any], facets: Sequence[tuple[Facet, str]]) -> int:
    if tx.dialect == "postgres":
        names, values, ids, uniques = (
            [facet.name for facet, _ in facets],
            [facet.value for facet, _ in facets],
            [key for _, key in facets],
            [facet.is_unique for facet, _ in facets],
        )
        return await tx.execute(_WRITE_MANY, kind.name, names, values, ids, uniques)
    count = 0
    for facet, key in facets:
        count += await tx.execute(_WRITE, kind.name, facet.name, facet.value, key, facet.is_unique)
    return count


async def _refuse_shared(
    tx: Transaction, kind: Kind[Any], facets: Sequence[tuple[Facet, str]]
) -> None:
    for facet, key in facets:
        holders = await tx.fetch(_HOLDER, kind.name, facet.name, facet.value)
        if facet.is_unique and holders and holders[0][0] != key:
            raise DataLossError(
                f"{kind.name} {key!r} shares its {facet.name} {facet.value!r} with"
                f" {holders[0][0]!r}",
                remedy="Restore a backup of before; or delete one of the two with the release"
                " that wrote them.",
            )
    raise AssertionError("facets are missing and no other entity has them")
