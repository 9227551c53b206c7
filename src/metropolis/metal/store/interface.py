# SPDX-License-Identifier: Apache-2.0
"""What every store of Metal offers, as protocols."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

EntityT = TypeVar("EntityT", bound=msgspec.Struct)
ResultT = TypeVar("ResultT")

Scalar = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[EntityT]):
    """A kind of entity: how it is stored and by what it is found.

    Attributes:
        name: Stored with every entity; never changes.
        type: Shape of the document.
        facets: By name, the values that `find` looks an entity up by; none where it has none.
        unique: Facets of which no two entities of this kind share a value.
    """

    name: str
    type: type[EntityT]
    facets: Mapping[str, Callable[[EntityT], Sequence[Scalar]]] = field(
        default_factory=dict[str, Callable[[EntityT], Sequence[Scalar]]]
    )
    unique: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Generic[EntityT]):
    """An entity as it was read.

    Attributes:
        revision: Of the commit that changed it last; grows with every change of the store.
        created: When it was inserted, UTC.
        changed: When it was changed last, UTC.
    """

    kind: Kind[EntityT]
    id: str
    value: EntityT
    revision: int
    created: datetime
    changed: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """That an entity was changed; what it is now must be read."""

    revision: int
    kind: str
    id: str
    operation: Literal["insert", "replace", "delete"]


class Reader(Protocol):
    """A consistent view of the store. Everything is ordered by id."""

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        """For rooms with tables of their own whose best statement differs."""
        ...

    async def get(self, kind: Kind[EntityT], key: str) -> Stored[EntityT]:
        """Read one entity.

        Raises:
            NotFoundError: there is none, naming kind and id.
        """
        ...

    async def lookup(self, kind: Kind[EntityT], key: str) -> Stored[EntityT] | None:
        """Read one entity, or None."""
        ...

    async def find(
        self,
        kind: Kind[EntityT],
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Stored[EntityT]]:
        """Read entities whose facets have all of these values; a sequence means any of them.

        Args:
            after: Only those with a greater id, for the next page.
            limit: At most so many.
        """
        ...

    async def texts(
        self,
        kind: Kind[Any],
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[bytes]:
        """Like `find`, but the documents as the JSON they are stored in, for long lists."""
        ...

    async def texts_beside(
        self,
        kind: Kind[Any],
        beside: Kind[Any],
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[tuple[bytes, bytes | None]]:
        """Like `texts`, each with the document of another kind that has the same id, or None."""
        ...

    async def text_beside(
        self, kind: Kind[Any], beside: Kind[Any], key: str, kinds: Sequence[Kind[Any]]
    ) -> tuple[bytes, bytes | None, int] | None:
        """Like `texts_beside` for one id, and the revision of the last change of some kinds.

        All in one statement; None when there is no such entity.
        """
        ...

    async def count(
        self, kind: Kind[Any], where: Mapping[str, Scalar | Sequence[Scalar]] | None = None
    ) -> int:
        """Count what `find` would return."""
        ...

    async def revision(self, *kinds: Kind[Any]) -> int:
        """The revision of the last change seen here: of these kinds, or of any."""
        ...

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # of a row
        """Run a query with `$1`-style arguments: for rooms that keep tables of their own.

        In a transaction the query may change rows and return them (`UPDATE … RETURNING`). A row is
        a tuple; binary columns are `bytes`.
        """
        ...


class Transaction(Reader, Protocol):
    """A change in the making: all of it becomes true, or nothing."""

    @property
    def now(self) -> datetime:
        """When this transaction began, UTC, in whole microseconds."""
        ...

    async def insert(self, kind: Kind[EntityT], key: str, value: EntityT) -> Stored[EntityT]:
        """Add an entity.

        Raises:
            AlreadyExistsError: the id is taken, or a unique facet's value, naming which.
        """
        ...

    async def replace(self, old: Stored[EntityT], value: EntityT) -> Stored[EntityT]:
        """Change an entity that was read before, in this transaction or earlier.

        Raises:
            AbortedError: it was changed or deleted since it was read.
            AlreadyExistsError: a unique facet's value is taken, naming which.
        """
        ...

    async def delete(self, old: Stored[Any]) -> None:
        """Remove an entity that was read before.

        Raises:
            AbortedError: it was changed or deleted since it was read.
        """
        ...

    async def send(self, topic: str, message: msgspec.Struct) -> None:
        """Put a message (as JSON) into the outbox, visible to consumers after the commit."""
        ...

    async def execute(self, sql: str, *args: Any) -> int:  # noqa: ANN401  # of a row
        """Run a statement with `$1`-style arguments and return how many rows it changed."""
        ...


class Store(Protocol):
    """A database of entities."""

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        """For rooms with tables of their own whose best statement differs."""
        ...

    @property
    def trouble(self) -> str:
        """Why the database did not keep a change lately; empty when it kept all."""
        ...

    async def read(self, view: Callable[[Reader], Awaitable[ResultT]]) -> ResultT:
        """Run a function on a consistent view."""
        ...

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        """Run a function as one transaction and return what it returned, once that is durable.

        The function may run again when the database asks for it, so it has no effects but those
        on the transaction, and it awaits nothing else. An exception undoes everything.

        Args:
            serial: Exclude other serial transactions, of every replica.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        ...

    async def once(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # of a row
        """Run one statement on tables of a room's own as a transaction of its own, at most once.

        It costs one round trip to the database where `write` costs four. In exchange it is never
        repeated, and the caller finds out for itself whether it was done when nobody can tell.

        Raises:
            AbortedError: nothing was done, because somebody else was in the way.
            UnavailableError: it may have been done, or may yet be done.
        """
        ...

    def watch(self, after: int) -> AsyncGenerator[Sequence[Change]]:
        """Yield changes after a revision as they are committed, of every replica, in order.

        Raises:
            OutOfRangeError: history does not reach back so far; read everything anew.
        """
        ...

    async def close(self) -> None:
        """Release files and connections."""
        ...
