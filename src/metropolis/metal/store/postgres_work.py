# SPDX-License-Identifier: Apache-2.0
"""Views and transactions on one PostgreSQL connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from typing_extensions import override

from metropolis.base.errors import AbortedError
from metropolis.metal.store.documents import Facet
from metropolis.metal.store.interface import Kind, Stored
from metropolis.metal.store.postgres_pool import Connection, Session
from metropolis.metal.store.queries import Where
from metropolis.metal.store.view import View
from metropolis.metal.store.work import Operation, Work

EntityT = TypeVar("EntityT", bound=msgspec.Struct)

CHANNEL: Final = "metropolis_metal"
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_OUTCOME: Final = """
    INSERT INTO outcome (session, number, at) VALUES ({}::text::uuid, {}, {})
    ON CONFLICT (session) DO UPDATE SET number = excluded.number, at = excluded.at"""
_NOTE_OUTCOME: Final = _OUTCOME.format("$1", "$2", "$3") + " RETURNING pg_current_xact_id()::text"
_INSERT: Final = (
    "INSERT INTO entity (kind, id, revision, created, changed, doc)"
    " VALUES ($1, $2, $3, $4, $4, $5) ON CONFLICT DO NOTHING"
)
_INSERT_WITH_FACETS: Final = f"""
    WITH entry AS ({_INSERT} RETURNING id), facets AS (
        INSERT INTO facet (kind, name, value, id, is_unique)
        SELECT $1, f.name, f.value, entry.id, f.is_unique
        FROM entry, unnest($6::text[], $7::text[], $8::boolean[]) AS f (name, value, is_unique))
    SELECT count(*) FROM entry"""  # noqa: S608  # constants
_ADD_FACETS: Final = """
    INSERT INTO facet (kind, name, value, id, is_unique)
    SELECT $1, f.name, f.value, $2, f.is_unique
    FROM unnest($3::text[], $4::text[], $5::boolean[]) AS f (name, value, is_unique)"""
# Whatever the planner believes about the table: there is one index to go by, that of (kind, id).
_REMOVE_FACETS: Final = r"""
    DELETE FROM facet WHERE kind = $1 AND id = $2 AND name || E'\x1f' || value = ANY ($3::text[])"""
_RECORD: Final = f"""
    WITH history AS (
        INSERT INTO change (revision, kind, id, operation)
        SELECT $1, c.kind, c.id, c.operation
        FROM unnest($2::text[], $3::text[], $4::text[]) AS c (kind, id, operation)
    ), kinds AS (
        INSERT INTO kind_revision (kind, revision) SELECT k, $1 FROM unnest($5::text[]) AS k
        ON CONFLICT (kind) DO UPDATE SET revision = excluded.revision
    ), outcome AS ({_OUTCOME.format("$6", "$7", "$8")})
    SELECT pg_notify('{CHANNEL}', ''), pg_current_xact_id()::text"""  # noqa: S608  # constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """By what the outcome of a transaction can be found out.

    Attributes:
        transaction: The database's number of it; after a crash another may have it.
        session: UUID of the connection.
        number: Counts the writing transactions of the connection.
    """

    transaction: str
    session: str
    number: int


class StaleReadError(AbortedError):
    """An entity changed after this very transaction had read it: it may simply run again."""


class PostgresView(View):
    """A view that begins a snapshot only when it needs one.

    The first statement is a snapshot of its own. With the second one a snapshot begins, and the
    first is asked again inside: mostly it says the same, and then all of it is one snapshot.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__("postgres")
        self._connection = connection
        self._first: tuple[str, Sequence[Any], Sequence[Any]] | None = None
        self.is_begun = False
        self.has_moved = False  # the first answer is outdated: run the whole view again

    async def begin(self) -> None:
        """Begin the snapshot now."""
        await self._connection.execute(_SNAPSHOT)
        self.is_begun = True

    @override
    async def _rows(self, sql: str, args: Sequence[Any]) -> Sequence[Any]:
        if not self.is_begun and self._first is not None:
            await self.begin()
            first_sql, first_args, first_rows = self._first
            again = await self._connection.fetch(first_sql, *first_args)
            self.has_moved = list(again) != list(first_rows)
        rows = await self._connection.fetch(sql, *args)
        if self._first is None:
            self._first = (sql, args, rows)
        return rows


class PostgresWork(Work):
    """A transaction that its owner has begun."""

    def __init__(self, session: Session, now: datetime) -> None:
        super().__init__("postgres", now)
        self._session = session
        self._connection = session.connection
        self._has_run = False
        self.mark: Mark | None = None
        self._read: set[tuple[str, str, int]] = set()

    @override
    async def finish(self) -> None:
        await super().finish()
        if self.mark is None and (self._has_run or self._revision is not None):
            outcome = self._next_outcome()
            self._note_mark(await self._connection.fetchval(_NOTE_OUTCOME, *outcome))

    @override
    async def lookup(self, kind: Kind[EntityT], key: str) -> Stored[EntityT] | None:
        found = await super().lookup(kind, key)
        if found is not None:
            self._read.add((kind.name, found.id, found.revision))
        return found

    @override
    async def find(
        self,
        kind: Kind[EntityT],
        where: Where | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Stored[EntityT]]:
        found = await super().find(kind, where, after=after, limit=limit)
        self._read.update((kind.name, each.id, each.revision) for each in found)
        return found

    @override
    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        self._has_run = True  # it may change what it returns
        return await super().fetch(sql, *args)

    @override
    async def _rows(self, sql: str, args: Sequence[Any]) -> Sequence[Any]:
        return await self._connection.fetch(sql, *args)

    @override
    async def _run(self, sql: str, args: Sequence[Any]) -> int:
        self._has_run = True
        status = await self._connection.execute(sql, *args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    @override
    async def _insert_row(self, row: Sequence[Any], facets: Sequence[Facet]) -> bool:
        if not facets:
            return bool(await self._run(_INSERT, row))
        return bool(await self._connection.fetchval(_INSERT_WITH_FACETS, *row, *_columns(facets)))

    @override
    async def _add_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None:
        await self._connection.execute(_ADD_FACETS, kind, key, *_columns(facets))

    @override
    async def _remove_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None:
        named = [f"{facet.name}\x1f{facet.value}" for facet in facets]
        await self._connection.execute(_REMOVE_FACETS, kind, key, named)

    @override
    async def _record(self, revision: int, changes: Sequence[tuple[str, str, Operation]]) -> None:
        kinds, keys, operations = (list(column) for column in zip(*changes, strict=True))
        distinct = list(dict.fromkeys(kinds))
        outcome = self._next_outcome()
        row = await self._connection.fetchrow(
            _RECORD, revision, kinds, keys, operations, distinct, *outcome
        )
        assert row is not None
        self._note_mark(row[1])

    def _next_outcome(self) -> tuple[str, int, int]:
        self._session.number += 1
        return self._session.id, self._session.number, self._now_us

    def _note_mark(self, transaction: str) -> None:
        self.mark = Mark(
            transaction=transaction, session=self._session.id, number=self._session.number
        )

    @override
    def _lost_race(self, old: Stored[Any]) -> AbortedError:
        lost = super()._lost_race(old)
        if (old.kind.name, old.id, old.revision) in self._read:
            return StaleReadError(str(lost), remedy=lost.remedy)
        return lost


def _columns(facets: Sequence[Facet]) -> tuple[list[str], list[str], list[bool]]:
    return (
        [facet.name for facet in facets],
        [facet.value for facet in facets],
        [facet.is_unique for facet in facets],
    )
