# SPDX-License-Identifier: Apache-2.0
"""Connections for reuse: no proxies, no background work, nothing to reset.

Whoever takes a connection leaves it outside of a transaction, with the session as it was; a
connection that broke, or cannot be cleaned up, is thrown away.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

import asyncpg

if TYPE_CHECKING:
    from asyncpg.connection import Connection as AsyncpgConnection

Connection: TypeAlias = "AsyncpgConnection[asyncpg.Record]"

_ROLLBACK_S: Final = 5.0
_CLOSE_S: Final = 2.0

# The server is away, or this connection is: the same call on another one may well succeed.
LOST: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)
# What the client library says of a connection that ended in an unexpected moment.
CONFUSED: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection, told apart from all others there ever were.

    Attributes:
        id: A UUID.
        number: Of its last transaction that wrote something.
    """

    connection: Connection
    id: str
    number: int = 0


@final
class Pool:
    """At most so many connections to one database.

    Args:
        connect: Opens one.
        connections_max: Who comes later waits for one.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], connections_max: int) -> None:
        self._connect = connect
        self._idle: list[Session] = []  # the one used last is taken first: its caches are warm
        self._free = asyncio.Semaphore(connections_max)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """Lend a connection.

        Raises:
            OSError, asyncpg.PostgresConnectionError: see `LOST`: there is none, or it broke.
        """
        async with self._free:
            session = await self._take()
            connection = session.connection
            try:
                yield session
            except asyncpg.ReadOnlySQLTransactionError as cause:  # what led is a standby now
                connection.terminate()
                raise asyncpg.ConnectionDoesNotExistError(str(cause)) from cause
            except asyncpg.InternalClientError as cause:  # it was told of its end while it was idle
                connection.terminate()
                raise asyncpg.ConnectionDoesNotExistError(str(cause)) from cause
            except asyncpg.InterfaceError as cause:
                if connection.is_closed():
                    raise asyncpg.ConnectionDoesNotExistError(str(cause)) from cause
                raise
            finally:
                if _is_given_up():
                    connection.terminate()
                await self._clean(connection)
                if not connection.is_closed():
                    self._idle.append(session)

    async def close(self) -> None:
        """Close what is idle; nothing may be lent."""
        while self._idle:
            connection = self._idle.pop().connection
            try:
                await connection.close(timeout=_CLOSE_S)
            except (*LOST, asyncpg.PostgresError, *CONFUSED):
                connection.terminate()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if not session.connection.is_closed():
                return session
        try:
            connection = await self._connect()
            try:
                known_as = await connection.fetchval("SELECT gen_random_uuid()::text")
            except BaseException:
                connection.terminate()
                raise
            return Session(connection=connection, id=known_as)
        except asyncpg.PostgresError as cause:  # refused: no such database, no such user
            raise asyncpg.PostgresConnectionError(str(cause)) from cause

    async def _clean(self, connection: Connection) -> None:
        if connection.is_closed() or not connection.is_in_transaction():
            return
        try:
            await connection.execute("ROLLBACK", timeout=_ROLLBACK_S)
        except (*LOST, asyncpg.PostgresError, *CONFUSED):
            connection.terminate()


def _is_given_up() -> bool:
    """Tell whether whoever had a connection was cancelled, whatever came of that.

    A statement may be under way. Whether it ends before it is cancelled nobody knows: a BEGIN that
    did would leave the next user in a transaction of somebody else.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
