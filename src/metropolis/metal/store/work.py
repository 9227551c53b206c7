# SPDX-License-Identifier: Apache-2.0
"""Changing, the same over either database: what is left to it is to run one statement.

The revision is taken with the first change of an entity, from one row that every transaction
that changes entities locks until its commit: so revisions are in the order of commits, and whoever
has seen revision 7 has seen all that revisions 1 to 6 did. Transactions that write only tables of
their own never touch that row.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import msgspec
from typing_extensions import override

from metropolis.base.errors import AbortedError, AlreadyExistsError
from metropolis.metal.store.documents import (
    Facet,
    check_key,
    encode,
    facets_of,
    to_us,
)
from metropolis.metal.store.interface import Kind, Stored
from metropolis.metal.store.queries import Dialect
from metropolis.metal.store.view import View

EntityT = TypeVar("EntityT", bound=msgspec.Struct)
Operation = Literal["insert", "replace", "delete"]

OUTBOX: Final = "outbox"  # kind of the changes that say: this topic has a new message
REVISIONS_KEPT: Final = 20_000  # of history: what a watcher may miss before it reads anew
PRUNE_EVERY: Final = 256  # revisions
TAKE_REVISION: Final = (
    "UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value"
)
_TOPIC: Final = (
    "INSERT INTO outbox_topic (topic, last) VALUES ($1, 1)"
    " ON CONFLICT (topic) DO UPDATE SET last = outbox_topic.last + 1 RETURNING last"
)
_MESSAGE: Final = "INSERT INTO outbox (topic, sequence, sent, payload) VALUES ($1, $2, $3, $4)"
_MERGED: Final[dict[tuple[Operation, Operation], Operation | None]] = {
    ("insert", "replace"): "insert",
    ("insert", "delete"): None,
    ("replace", "replace"): "replace",
    ("replace", "delete"): "delete",
    ("delete", "insert"): "replace",
}


class Work(View):
    """A `Transaction` over one connection, begun and committed by its owner."""

    def __init__(self, dialect: Dialect, now: datetime) -> None:
        super().__init__(dialect)
        self._now = now
        self._now_us = to_us(now)
        self._revision: int | None = None
        self._changes: dict[tuple[str, str], Operation | None] = {}
        self._written: dict[tuple[str, str], msgspec.Struct] = {}  # what facets are kept of

    @property
    def now(self) -> datetime:
        """When this transaction began, UTC."""
        return self._now

    @abstractmethod
    async def _run(self, sql: str, args: Sequence[Any]) -> int:
        """Run a statement and return how many rows it changed."""

    @abstractmethod
    async def _insert_row(self, row: Sequence[Any], facets: Sequence[Facet]) -> bool:
        """Insert (kind, id, revision, now, doc); tell whether the id was free."""

    @abstractmethod
    async def _add_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None: ...

    @abstractmethod
    async def _remove_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None: ...

    @abstractmethod
    async def _record(self, revision: int, changes: Sequence[tuple[str, str, Operation]]) -> None:
        """Write history and the revisions of kinds."""

    @property
    def changed(self) -> int | None:
        """The revision of this transaction; None as long as it changed no entity."""
        return self._revision

    async def insert(self, kind: Kind[EntityT], key: str, value: EntityT) -> Stored[EntityT]:
        """Add an entity."""
        check_key(kind, key)
        facets = tuple(facets_of(kind, value))
        revision = await self._take_revision()
        await self._refuse_taken(kind, key, facets)
        row = (kind.name, key, revision, self._now_us, encode(value))
        if not await self._insert_row(row, facets):
            raise AlreadyExistsError(
                f"there is a {kind.name} {key!r} already",
                remedy="Choose another id, or change the one that exists.",
            )
        self._note(kind, key, "insert")
        self._written[kind.name, key] = value
        return Stored(
            kind=kind, id=key, value=value, revision=revision, created=self._now, changed=self._now
        )

    async def replace(self, old: Stored[EntityT], value: EntityT) -> Stored[EntityT]:
        """Change an entity that was read before."""
        latest: Any = self._written.get((old.kind.name, old.id), old.value)
        before, after = facets_of(old.kind, latest), facets_of(old.kind, value)
        added = tuple(each for each in after if each not in before)
        removed = tuple(each for each in before if each not in after)
        revision = await self._take_revision()
        await self._refuse_taken(old.kind, old.id, added)
        args = (old.kind.name, old.id, old.revision, revision, self._now_us, encode(value))
        done = await self._run(
            "UPDATE entity SET revision = $4, changed = $5, doc = $6"
            " WHERE kind = $1 AND id = $2 AND revision = $3",
            args,
        )
        if not done:
            raise self._lost_race(old)
        if removed:
            await self._remove_facets(old.kind.name, old.id, removed)
        if added:
            await self._add_facets(old.kind.name, old.id, added)
        self._note(old.kind, old.id, "replace")
        self._written[old.kind.name, old.id] = value
        return replace(old, value=value, revision=revision, changed=self._now)

    async def delete(self, old: Stored[Any]) -> None:
        """Remove an entity that was read before."""
        await self._take_revision()
        done = await self._run(
            "DELETE FROM entity WHERE kind = $1 AND id = $2 AND revision = $3",
            (old.kind.name, old.id, old.revision),
        )
        if not done:
            raise self._lost_race(old)
        if old.kind.facets:
            await self._run(
                "DELETE FROM facet WHERE kind = $1 AND id = $2", (old.kind.name, old.id)
            )
        self._note(old.kind, old.id, "delete")

    async def send(self, topic: str, message: msgspec.Struct) -> None:
        """Put a message into the outbox; watchers see the topic as a change of kind "outbox"."""
        await self._take_revision()
        rows = await self._rows(_TOPIC, (topic,))
        await self._run(_MESSAGE, (topic, rows[0][0], self._now_us, encode(message)))
        self._changes[OUTBOX, topic] = "insert"

    async def execute(self, sql: str, *args: Any) -> int:  # noqa: ANN401  # of a row
        """Run a statement of a room with tables of its own."""
        return await self._run(sql, args)

    @override
    async def revision(self, *kinds: Kind[Any]) -> int:
        """Return the revision of the last change, those of this transaction included."""
        if self._revision is not None:
            names = {kind.name for kind in kinds}
            if not kinds or any(kind in names for kind, _ in self._changes):
                return self._revision
        return await super().revision(*kinds)

    async def finish(self) -> None:
        """Write what belongs to the commit: history, and the revisions of kinds."""
        changes: list[tuple[str, str, Operation]] = [
            (kind, key, operation)
            for (kind, key), operation in self._changes.items()
            if operation is not None
        ]
        if self._revision is None or not changes:
            return
        await self._record(self._revision, changes)
        if self._revision % PRUNE_EVERY == 0:
            floor = max(0, self._revision - REVISIONS_KEPT)
            await self._run("DELETE FROM change WHERE revision <= $1", (floor,))
            await self._run(
                "UPDATE counter SET value = $1 WHERE name = 'change_floor' AND value < $1",
                (floor,),
            )

    async def _take_revision(self) -> int:
        if self._revision is None:
            self._revision = int((await self._rows(TAKE_REVISION, ()))[0][0])
        return self._revision

    async def _refuse_taken(self, kind: Kind[Any], key: str, facets: Sequence[Facet]) -> None:
        for facet in facets:
            if not facet.is_unique:
                continue
            rows = await self._rows(
                "SELECT id FROM facet WHERE kind = $1 AND name = $2 AND value = $3 AND is_unique",
                (kind.name, facet.name, facet.value),
            )
            if rows and rows[0][0] != key:
                raise AlreadyExistsError(
                    f"{kind.name} {rows[0][0]!r} has the {facet.name} {facet.value!r} already",
                    remedy=f"Choose another {facet.name}, or change the {kind.name} that has it.",
                )

    def _lost_race(self, old: Stored[Any]) -> AbortedError:
        return AbortedError(
            f"{old.kind.name} {old.id!r} was changed by somebody else in the meantime",
            remedy="Read it again and repeat the change.",
        )

    def _note(self, kind: Kind[Any], key: str, operation: Operation) -> None:
        place = (kind.name, key)
        before = self._changes.get(place)
        self._changes[place] = operation if before is None else _MERGED[before, operation]
