# SPDX-License-Identifier: Apache-2.0
"""Reading a whole database as one consistent snapshot, on a connection of its own."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from metropolis.base.errors import NotFoundError, UnavailableError
from metropolis.metal.backup.tables import DERIVED, FURNITURE, tables_of
from metropolis.metal.store.migrating import check_version
from metropolis.metal.store.migrations import MIGRATIONS
from metropolis.metal.store.opening import is_postgres, sqlite_path

if TYPE_CHECKING:
    import asyncpg

BATCH_ROWS: Final = 200  # also how much is read before others of this process get their turn
_HAS_ROWS: Final = "SELECT EXISTS (SELECT 1 FROM {})"
_REVISION: Final = "SELECT value FROM counter WHERE name = 'revision'"


class Source(Protocol):
    """A snapshot.

    Attributes:
        schema_version: 0: there are no tables.
        revision: Of the store.
    """

    schema_version: int
    revision: int

    async def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        ...

    async def has_rows(self, table: str) -> bool:
        """Tell whether a table has any row."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> AsyncGenerator[list[Sequence[Any]]]:
        """Yield a table's rows, some at a time."""
        ...


@final
class SqliteSource:
    """A snapshot of a SQLite file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.schema_version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        check_version(self.schema_version, MIGRATIONS)
        self.revision = connection.execute(_REVISION).fetchone()[0] if self.schema_version else 0

    async def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return [row[0] for row in rows]

    async def has_rows(self, table: str) -> bool:
        """Tell whether a table has any row."""
        return bool(self._connection.execute(_HAS_ROWS.format(table)).fetchone()[0])

    async def rows(self, table: str, columns: Sequence[str]) -> AsyncGenerator[list[Sequence[Any]]]:
        """Yield a table's rows, some at a time."""
        cursor = self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  # our own names
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield list(rows)
            await asyncio.sleep(0)


@final
class PostgresSource:
    """A snapshot of a PostgreSQL database; its owner has begun the transaction."""

    schema_version = 0
    revision = 0

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def look(self) -> None:
        """Read what it is."""
        if await self._connection.fetchval("SELECT to_regclass('schema_version')::text") is None:
            return
        version = await self._connection.fetchval("SELECT version FROM schema_version")
        self.schema_version = int(version or 0)
        check_version(self.schema_version, MIGRATIONS)
        if self.schema_version:
            self.revision = int(await self._connection.fetchval(_REVISION))

    async def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        rows = await self._connection.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            table,
        )
        return [row[0] for row in rows]

    async def has_rows(self, table: str) -> bool:
        """Tell whether a table has any row."""
        return bool(await self._connection.fetchval(_HAS_ROWS.format(table)))

    async def rows(self, table: str, columns: Sequence[str]) -> AsyncGenerator[list[Sequence[Any]]]:
        """Yield a table's rows, some at a time."""
        cursor = await self._connection.cursor(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  # our own names
        while rows := await cursor.fetch(BATCH_ROWS):
            yield [tuple(row) for row in rows]


@asynccontextmanager
async def open_source(database: str) -> AsyncGenerator[Source]:
    """Open a snapshot of a database, by the address that the store is opened by.

    Raises:
        NotFoundError: there is no such file.
        UnavailableError: it cannot be reached.
        FailedPreconditionError: a newer release has written it.
    """
    if is_postgres(database):
        import asyncpg  # noqa: PLC0415  # 40 ms that SQLite needs not

        try:
            connection = await asyncpg.connect(database)
        except (OSError, asyncpg.PostgresError) as cause:
            raise unreachable(cause) from cause
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                source = PostgresSource(connection)
                await source.look()
                yield source
        except (
            OSError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
        ) as cause:
            raise unreachable(cause) from cause
        finally:
            connection.terminate()
        return
    path = sqlite_path(database)
    if not os.path.exists(path):  # noqa: PTH110, ASYNC240  # a path as SQLite takes it
        raise NotFoundError(
            f"there is no database {path}", remedy="Name the one that is served: --database."
        )
    file = sqlite3.connect(path, isolation_level=None)
    try:
        file.execute("PRAGMA query_only = ON")
        file.execute("BEGIN")
        yield SqliteSource(file)
    except sqlite3.Error as cause:
        raise unreachable(cause) from cause
    finally:
        file.close()


def unreachable(cause: Exception) -> UnavailableError:
    """Return what is said when a database cannot be used."""
    return UnavailableError(
        f"the database cannot be used: {str(cause) or type(cause).__name__}",
        remedy="Check that --database names it, and that it can be reached.",
    )


async def is_empty(source: Source) -> bool:
    """Tell whether nothing was ever written into a database."""
    if source.schema_version == 0:
        return True
    for table in kept_tables(source.schema_version):
        if table not in FURNITURE and await source.has_rows(table):
            return False
    return source.revision == 0


def kept_tables(schema_version: int) -> list[str]:
    """Return the tables that a backup holds."""
    tables = tables_of(MIGRATIONS[:schema_version], "sqlite")  # what is kept is in both
    return [table for table in tables if table not in DERIVED]
