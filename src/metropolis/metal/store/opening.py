# SPDX-License-Identifier: Apache-2.0
"""Opening a database by its address, and bringing it to the newest schema."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.host import Clock
from metropolis.metal.store.documents import to_us
from metropolis.metal.store.interface import Store
from metropolis.metal.store.migrating import check_version, pending
from metropolis.metal.store.migrations import MIGRATIONS, Migration
from metropolis.metal.store.sqlite import open_sqlite

if TYPE_CHECKING:
    import asyncpg

    from metropolis.metal.store.postgres import PostgresStore

_SCHEMES: Final = ("postgresql://", "postgres://")
_OUTCOMES_KEPT: Final = timedelta(days=1)  # of connections that have ended
_URI: Final = re.compile("[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # what only looks like a path
MIGRATION_LOCK: Final = 0x6D65746100
COMMAND_S: Final = 60.0  # a server that is silent for so long is lost
IDLE_MS: Final = 10_000  # a replica that hangs in a transaction gives back its locks after so long
LOCK_MS: Final = 20_000  # a change waits so long for another one


async def open_store(
    database: str, *, clock: Clock, migrations: Sequence[Migration] = MIGRATIONS
) -> Store:
    """Open a database, create its tables when there are none, migrate it when it is older.

    Args:
        database: "postgresql://…", or the path of a SQLite file, or ":memory:".
        migrations: Less than all of them only in tests.

    Raises:
        UnavailableError: it cannot be reached or opened.
        FailedPreconditionError: a newer release has written it.
        InvalidArgumentError: this is no address of a database.
    """
    if is_postgres(database):
        return await open_postgres(database, clock=clock, migrations=migrations)
    return await open_sqlite(sqlite_path(database), clock=clock, migrations=migrations)


def is_postgres(database: str) -> bool:
    """Tell whether this is the address of a PostgreSQL database."""
    return database.startswith(_SCHEMES)


def sqlite_path(database: str) -> str:
    """Return the path of a SQLite file.

    Raises:
        InvalidArgumentError: this is no address of a database.
    """
    remedy = "Give postgresql://… or the path of a file for SQLite."
    scheme, separator, path = database.partition("://")
    if separator and scheme != "sqlite":
        raise InvalidArgumentError(f"{scheme}:// is no database we know", remedy=remedy)
    if not separator:
        path = database
    if not path or _URI.match(path):  # a file with such a name is made only by mistake
        # Without what was given: a misspelled address may hold a password.
        raise InvalidArgumentError("this is no path of a SQLite file", remedy=remedy)
    return path


async def open_postgres(
    url: str, *, clock: Clock, migrations: Sequence[Migration] = MIGRATIONS
) -> "PostgresStore":
    """Open a PostgreSQL database; see `open_store`."""
    import asyncpg  # noqa: PLC0415  # 40 ms that SQLite needs not

    from metropolis.metal.store.postgres import (  # noqa: PLC0415  # as above
        CONNECTIONS,
        PostgresStore,
        unreachable,
    )
    from metropolis.metal.store.postgres_listener import Listener  # noqa: PLC0415  # as above
    from metropolis.metal.store.postgres_pool import LOST, Pool  # noqa: PLC0415  # as above

    settings = {
        "application_name": "metropolis-metal",
        "jit": "off",  # our statements are short: compiling them costs more than running them
        "idle_in_transaction_session_timeout": str(IDLE_MS),
        "lock_timeout": str(LOCK_MS),
    }

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            url,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,  # for ever
            command_timeout=COMMAND_S,
            server_settings=settings,
        )

    try:
        connection = await connect()
        try:
            await _migrate(connection, migrations)
            if len(migrations) == len(MIGRATIONS):
                oldest_us = to_us(clock.wall() - _OUTCOMES_KEPT)
                await connection.execute("DELETE FROM outcome WHERE at < $1", oldest_us)
        finally:
            await connection.close()
    except (ValueError, asyncpg.ClientConfigurationError) as cause:
        raise InvalidArgumentError(
            "this is no address of a PostgreSQL database",
            remedy="Write postgresql://user@host:port/database; special characters as %XX.",
        ) from cause
    except (*LOST, asyncpg.PostgresError, TimeoutError) as cause:
        raise unreachable(cause) from cause
    return PostgresStore(Pool(connect, CONNECTIONS), Listener(connect), clock)


async def _migrate(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration]
) -> None:
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version bigint NOT NULL)"
        )
        version = await connection.fetchval("SELECT version FROM schema_version") or 0
        check_version(version, migrations)
        if version == len(migrations):
            return
        for migration in pending(version, migrations):
            for statement in migration.of("postgres"):
                await connection.execute(statement)
        await connection.execute("DELETE FROM schema_version")
        await connection.execute("INSERT INTO schema_version VALUES ($1)", len(migrations))
