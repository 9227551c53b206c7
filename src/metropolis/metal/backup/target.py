# SPDX-License-Identifier: Apache-2.0
"""Filling an empty database with the rows of a backup, in one transaction."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from metropolis.base.errors import AlreadyExistsError
from metropolis.metal.backup.file import Header, damaged
from metropolis.metal.backup.source import (
    PostgresSource,
    SqliteSource,
    is_empty,
    kept_tables,
    unreachable,
)
from metropolis.metal.backup.tables import AFTER_LOADING, tables_of
from metropolis.metal.store.migrations import MIGRATIONS
from metropolis.metal.store.opening import MIGRATION_LOCK, is_postgres, sqlite_path
from metropolis.metal.store.queries import Dialect
from metropolis.metal.store.sqlite import create_private

if TYPE_CHECKING:
    import asyncpg

_REST_EVERY: Final = 4  # records of rows between turns of others


async def load(database: str, header: Header, records: Iterable[Any]) -> None:
    """Fill an empty database. Either all of the records end without an error, or nothing stays.

    Raises:
        AlreadyExistsError: the database is not empty.
        DataLossError: the records are damaged.
        UnavailableError: the database cannot be used.
    """
    if is_postgres(database):
        await _load_postgres(database, header, records)
    else:
        await _load_sqlite(sqlite_path(database), header, records)


def _not_empty() -> AlreadyExistsError:
    return AlreadyExistsError(
        "the database is not empty",
        remedy="Stop every replica and give an empty database, then restore into that.",
    )


def _tables(header: Header, records: Iterable[Any]) -> Iterator[tuple[str, list[str], list[Any]]]:
    """Yield (table, columns, rows), and only what the schema of the backup has."""
    known = set(kept_tables(header.schema_version))
    table, columns = "", list[str]()
    for record in records:
        if record[0] == "table":
            table, columns = record[1], record[2]
            if table not in known or not all(each.isidentifier() for each in columns):
                raise damaged("it has a table that its schema has not")
        else:
            yield table, columns, record[1]


async def _load_sqlite(path: str, header: Header, records: Iterable[Any]) -> None:
    try:
        create_private(path)
        connection = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.Error) as cause:
        raise unreachable(cause) from cause
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        if not await is_empty(SqliteSource(connection)):
            raise _not_empty()
        for statement in _fresh_schema("sqlite", header.schema_version):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {header.schema_version}")
        for number, (table, columns, rows) in enumerate(_tables(header, records)):
            places = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608  # checked
                rows,
            )
            if number % _REST_EVERY == 0:
                await asyncio.sleep(0)
        for statement in _last_statements(header.schema_version):
            connection.execute(statement)
        connection.execute("COMMIT")
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError) as cause:
        raise damaged(f"its rows do not fit together: {cause}") from cause
    except sqlite3.Error as cause:
        raise unreachable(cause) from cause
    finally:
        connection.close()  # and so roll back what was not committed


async def _load_postgres(url: str, header: Header, records: Iterable[Any]) -> None:
    import asyncpg  # noqa: PLC0415  # 40 ms that SQLite needs not

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as cause:
        raise unreachable(cause) from cause
    try:
        async with connection.transaction():
            await _fill_postgres(connection, header, records)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as cause:
        raise damaged(f"its rows do not fit together: {cause}") from cause
    except (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
    ) as cause:
        raise unreachable(cause) from cause
    finally:
        await connection.close()


async def _fill_postgres(
    connection: "asyncpg.Connection[asyncpg.Record]", header: Header, records: Iterable[Any]
) -> None:
    # Replicas that start together: one restores, the others find what it has restored.
    await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    source = PostgresSource(connection)
    await source.look()
    if not await is_empty(source):
        raise _not_empty()
    for statement in _fresh_schema("postgres", header.schema_version):
        await connection.execute(statement)
    await connection.execute("DELETE FROM schema_version")
    await connection.execute("INSERT INTO schema_version VALUES ($1)", header.schema_version)
    for table, columns, rows in _tables(header, records):
        await connection.copy_records_to_table(table, columns=columns, records=rows)
    for statement in _last_statements(header.schema_version):
        await connection.execute(statement)


def _fresh_schema(dialect: Dialect, version: int) -> list[str]:
    """Statements that make the tables of a version, without a row, whatever tables there were."""
    every = tables_of(MIGRATIONS, dialect)
    statements = [f"DROP TABLE IF EXISTS {table}" for table in every]
    if dialect == "postgres":
        statements.append("CREATE TABLE IF NOT EXISTS schema_version (version bigint NOT NULL)")
    for migration in MIGRATIONS[:version]:
        statements += migration.of(dialect)
    made = tables_of(MIGRATIONS[:version], dialect)
    statements += [f"DELETE FROM {table}" for table in made]  # noqa: S608  # our own names
    return statements


def _last_statements(version: int) -> Sequence[str]:
    tables = kept_tables(version)
    return [
        statement
        for statement in AFTER_LOADING
        if "outbox_topic" not in statement or "outbox_topic" in tables
    ]
