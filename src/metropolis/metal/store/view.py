# SPDX-License-Identifier: Apache-2.0
"""Reading, the same over either database: what is left to it is to run one query."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
        sql, args = selection(self._dialect, kind, "e.doc", where, after=after, limit=limit)
        return [row[0].encode() for row in await self._rows(sql, args)]

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

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Run a query of a room with tables of its own."""
        return [tuple(row) for row in await self._rows(sql, args)]
