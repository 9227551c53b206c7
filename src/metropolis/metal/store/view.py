# SPDX-License-Identifier: Apache-2.0
"""Reading, the same over either database: what is left to it is to run one query."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from metropolis.base.errors import NotFoundError
from metropolis.metal.store.documents import is_storable, stored
from metropolis.metal.store.interface import Kind, Stored
from metropolis.metal.store.queries import ROW, Dialect, Where, selection

EntityT = TypeVar("EntityT", bound=msgspec.Struct)

_GET = f"SELECT {ROW} FROM entity e WHERE e.kind = $1 AND e.id = $2"  # noqa: S608  # constant
_KINDS = {
    "postgres": "SELECT max(revision) FROM kind_revision WHERE kind = ANY($1::text[])",
    "sqlite": "SELECT max(revision) FROM kind_revision"
    " WHERE kind IN (SELECT value FROM json_each($1))",
}


@lru_cache
def _with_revision(kinds: int) -> str:
    places = ", ".join(f"${number}" for number in range(4, 4 + kinds))
    return (
        "SELECT e.doc, b.doc,"  # noqa: S608  # places of arguments
        f" (SELECT max(revision) FROM kind_revision WHERE kind IN ({places}))"
        " FROM entity e LEFT JOIN entity b ON b.kind = $3 AND b.id = e.id"
        " WHERE e.kind = $1 AND e.id = $2"
    )


class View(ABC):
    """A `Reader` over one connection."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect: Dialect = dialect

    @property
    def dialect(self) -> Dialect:
        """Which database this is."""
        return self._dialect

    @abstractmethod
    async def _rows(self, sql: str, args: Sequence[Any]) -> Sequence[Any]:
        """Run a query."""

    async def get(self, kind: Kind[EntityT], key: str) -> Stored[EntityT]:
        """Read one entity or raise NotFoundError."""
        found = await self.lookup(kind, key)
        if found is None:
            raise NotFoundError(
                f"there is no {kind.name} {key!r}", remedy="Check the id; list what there is."
            )
        return found

    async def lookup(self, kind: Kind[EntityT], key: str) -> Stored[EntityT] | None:
        """Read one entity, or None."""
        if not is_storable(key):
            return None
        rows = await self._rows(_GET, (kind.name, key))
        return stored(kind, rows[0]) if rows else None

    async def find(
        self,
        kind: Kind[EntityT],
        where: Where | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Stored[EntityT]]:
        """Read entities by their facets."""
        sql, args = selection(self._dialect, kind, ROW, where, after=after, limit=limit)
        return [stored(kind, row) for row in await self._rows(sql, args)]

    async def texts(
        self,
        kind: Kind[Any],
        where: Where | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[bytes]:
        """Read documents as their JSON."""
        # SQLite keeps UTF-8: asked for a blob, it is spared from making text of it only to undo it.
        column = "CAST(e.doc AS BLOB)" if self._dialect == "sqlite" else "e.doc"
        sql, args = selection(self._dialect, kind, column, where, after=after, limit=limit)
        rows = await self._rows(sql, args)
        if self._dialect == "sqlite":
            return [row[0] for row in rows]
        return [row[0].encode() for row in rows]

    async def texts_beside(
        self,
        kind: Kind[Any],
        beside: Kind[Any],
        where: Where | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[tuple[bytes, bytes | None]]:
        """Read documents as their JSON, each with the one of another kind that has its id."""
        is_sqlite = self._dialect == "sqlite"
        columns = "CAST(e.doc AS BLOB), CAST(b.doc AS BLOB)" if is_sqlite else "e.doc, b.doc"
        sql, args = selection(
            self._dialect, kind, columns, where, after=after, limit=limit, beside=beside
        )
        rows = await self._rows(sql, args)
        if is_sqlite:
            return list(rows)
        return [(one.encode(), None if other is None else other.encode()) for one, other in rows]

    async def text_beside(
        self, kind: Kind[Any], beside: Kind[Any], key: str, kinds: Sequence[Kind[Any]]
    ) -> tuple[bytes, bytes | None, int] | None:
        """Read a document as its JSON, the one of another kind, and the revision of some kinds."""
        if not is_storable(key):
            return None
        names = [each.name for each in kinds]
        rows = await self._rows(_with_revision(len(names)), (kind.name, key, beside.name, *names))
        if not rows:
            return None
        one, other, revision = rows[0]
        return one.encode(), None if other is None else other.encode(), revision or 0

    async def count(self, kind: Kind[Any], where: Where | None = None) -> int:
        """Count what `find` would return."""
        sql, args = selection(self._dialect, kind, "count(*)", where, ordered=False)
        return int((await self._rows(sql, args))[0][0])

    async def revision(self, *kinds: Kind[Any]) -> int:
        """Return the revision of the last change of these kinds, or of any."""
        if not kinds:
            rows = await self._rows("SELECT value FROM counter WHERE name = 'revision'", ())
            return int(rows[0][0])
        names = [kind.name for kind in kinds]
        wanted = names if self._dialect == "postgres" else msgspec.json.encode(names).decode()
        rows = await self._rows(_KINDS[self._dialect], (wanted,))
        return int(rows[0][0] or 0)

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # of a row
        """Run a query of a room with tables of its own."""
        return [tuple(row) for row in await self._rows(sql, args)]
