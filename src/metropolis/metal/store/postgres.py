# SPDX-License-Identifier: Apache-2.0
"""The store in PostgreSQL: any number of replicas on one database.

Serial transactions take one advisory lock first, so that each sees all that was decided before
it, in READ COMMITTED: statement by statement the newest that is committed. Views run in one
REPEATABLE READ snapshot; a view of a single statement needs no transaction for that.

What is done about faults:

    deadlock, serialization failure, an entity that changed
      between its being read and replaced in one transaction    the function runs again
    connection lost before COMMIT was sent                       the function runs again
    connection lost after it                                     the row that each transaction
                                                                 leaves tells: answer, or run again
    a replica hangs while it holds the lock                      the server ends its connection
    the server is away                                           wait for it a while, then say so
"""

import asyncio
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar, final

import asyncpg

from metropolis.base.errors import AbortedError, UnavailableError
from metropolis.host import Clock
from metropolis.metal.store.history import Tail, changes_after
from metropolis.metal.store.interface import Change, Reader, Transaction
from metropolis.metal.store.postgres_listener import Listener
from metropolis.metal.store.postgres_pool import CONFUSED, LOST, Connection, Pool
from metropolis.metal.store.postgres_work import (
    Mark,
    PostgresView,
    PostgresWork,
    StaleReadError,
)
from metropolis.metal.store.trouble import Trouble

ResultT = TypeVar("ResultT")

CONNECTIONS: Final = 16  # of one replica, beside the one that listens
PATIENCE_S: Final = 15.0  # with a server that is away: a restart takes less
ATTEMPTS_MAX: Final = 20  # of one change that others get in the way of
POLL_S: Final = 5.0  # between looks at history without having been told of anything
_PAUSE_FIRST_S: Final = 0.005
_PAUSE_MAX_S: Final = 0.5
_SERIAL_LOCK: Final = 0x6D6574616C  # "metal"; advisory locks are per database
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_SERIAL: Final = f"{_BEGIN}; SELECT pg_advisory_xact_lock({_SERIAL_LOCK})"
_IN_PROGRESS: Final = "SELECT pg_xact_status($1::text::xid8) = 'in progress'"
_COMMITTED: Final = "SELECT number >= $2 FROM outcome WHERE session = $1::text::uuid"

# Somebody else was in the way.
_CONFLICTS: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
    StaleReadError,
)


# The server is there and does not do it: its disk or memory is full, or broken.
_UNABLE: Final = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)


class _OutcomeUnknownError(Exception):
    """The connection was lost while COMMIT was on its way."""

    def __init__(self, mark: Mark, result: object) -> None:
        super().__init__(mark)
        self.mark = mark
        self.result = result


@final
class PostgresStore:
    """A `Store` in PostgreSQL; made by `open_postgres`.

    Args:
        listener: Of its own connection, for news of other replicas.
    """

    def __init__(self, pool: Pool, listener: Listener, clock: Clock) -> None:
        self._pool = pool
        self._listener = listener
        self._clock = clock
        self._trouble = Trouble(clock)
        self._wide_views: set[types.CodeType] = set()  # those that run several statements
        self._tail = Tail(
            lambda after: self.read(lambda reader: changes_after(reader, after)), poll_s=POLL_S
        )
        listener.on_news = self._tail.wake

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        """Which database this is."""
        return "postgres"

    async def read(self, view: Callable[[Reader], Awaitable[ResultT]]) -> ResultT:
        """Run a function on a consistent view."""
        patience = _Patience()
        while True:
            try:
                return await self._read_once(view)
            except LOST as cause:
                await patience.bear(cause)
            except _UNABLE as cause:
                raise unable(cause) from cause

    @property
    def trouble(self) -> str:
        """Why a change was not kept lately; empty when all were."""
        return self._trouble.text

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        """Run a function as one transaction."""
        try:
            return await self._write_patiently(change, serial=serial)
        except UnavailableError as error:
            self._trouble.tell(str(error))
            raise

    async def _write_patiently(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool
    ) -> ResultT:
        patience = _Patience()
        while True:
            try:
                return await self._write_once(change, serial=serial)
            except _OutcomeUnknownError as unknown:
                if await self._was_committed(unknown.mark):
                    return unknown.result  # type: ignore[return-value]  # of this very change
            except _CONFLICTS as cause:
                await patience.yield_to(cause)
            except LOST as cause:
                await patience.bear(cause)
            except _UNABLE as cause:
                raise unable(cause) from cause
            except asyncpg.LockNotAvailableError as cause:
                raise UnavailableError(
                    "another change keeps the database busy",
                    remedy="Try again; if it stays so, look at the load of the database's host.",
                ) from cause

    async def once(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # of a row
        """Run one statement as a transaction of its own, at most once."""
        try:
            async with self._pool.session() as session:
                return [tuple(row) for row in await session.connection.fetch(sql, *args)]
        except _CONFLICTS as cause:
            raise AbortedError(f"somebody else was in the way: {cause}") from cause
        except _UNABLE as cause:
            raise unable(cause) from cause
        except (*LOST, *CONFUSED) as cause:
            raise unreachable(cause) from cause

    def watch(self, after: int) -> AsyncGenerator[Sequence[Change]]:
        """Yield changes after a revision as they are committed, of every replica, in order."""
        return self._tail.watch(after, self._listener.listening)

    async def close(self) -> None:
        """Close every connection. Nothing may be going on."""
        await self._listener.close()
        await self._pool.close()

    async def _read_once(self, view: Callable[[Reader], Awaitable[ResultT]]) -> ResultT:
        code = getattr(view, "__code__", None)
        is_wide = code is None or code in self._wide_views
        while True:
            async with self._pool.session() as session:
                connection = session.connection
                reader = PostgresView(connection)
                if is_wide:
                    await reader.begin()
                try:
                    result = await view(reader)
                finally:
                    if code is not None and reader.is_begun:
                        self._wide_views.add(code)
                    if reader.is_begun and not connection.is_closed():
                        await connection.execute("COMMIT")
                if not reader.has_moved:
                    return result
            is_wide = True

    async def _write_once(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool
    ) -> ResultT:
        async with self._pool.session() as session:
            connection = session.connection
            await connection.execute(_BEGIN_SERIAL if serial else _BEGIN)
            work = PostgresWork(session, self._clock.wall())
            result = await change(work)
            await work.finish()
            try:
                status = await connection.execute("COMMIT")
            except (*LOST, *CONFUSED) as cause:
                if work.mark is None:  # it has written nothing
                    return result
                raise _OutcomeUnknownError(work.mark, result) from cause
            assert status == "COMMIT", "a change went on after the database had refused a statement"
            return result

    async def _was_committed(self, mark: Mark) -> bool:
        patience = _Patience()
        while True:
            try:
                async with self._pool.session() as session:
                    connection = session.connection
                    if not await self._is_in_progress(connection, mark):
                        return bool(
                            await connection.fetchval(_COMMITTED, mark.session, mark.number)
                        )
            except LOST as cause:
                await patience.bear(cause)
            else:  # its server process has not noticed yet that we are gone
                await patience.bear(TimeoutError("a commit hangs"))

    @staticmethod
    async def _is_in_progress(connection: Connection, mark: Mark) -> bool:
        try:
            return bool(await connection.fetchval(_IN_PROGRESS, mark.transaction))
        except asyncpg.InvalidParameterValueError:
            return False  # the server crashed and never heard of it


class _Patience:
    """How long one call waits, for the server and for others."""

    def __init__(self) -> None:
        self._started_s = asyncio.get_running_loop().time()
        self._attempts = 0

    async def bear(self, cause: Exception) -> None:
        """Wait a little, or give up.

        Raises:
            UnavailableError: it was long enough.
        """
        if asyncio.get_running_loop().time() - self._started_s > PATIENCE_S:
            raise unreachable(cause) from cause
        await self._pause()

    async def yield_to(self, cause: Exception) -> None:
        """Let others pass, or give up.

        Raises:
            Exception: the cause, after many attempts.
        """
        if self._attempts >= ATTEMPTS_MAX:
            raise cause
        await self._pause()

    async def _pause(self) -> None:
        pause_s = min(_PAUSE_FIRST_S * 2**self._attempts, _PAUSE_MAX_S)
        self._attempts += 1
        await asyncio.sleep(pause_s)


def unable(cause: Exception) -> UnavailableError:
    """Return what a caller is told when the server cannot do what it should."""
    return UnavailableError(
        f"PostgreSQL cannot do it: {cause}",
        remedy="Look at the disk, the memory and the log of the database's host.",
    )


def unreachable(cause: Exception) -> UnavailableError:
    """Return what a caller is told when the server is away."""
    return UnavailableError(
        f"PostgreSQL cannot be reached: {str(cause) or type(cause).__name__}",
        remedy="Check that the server runs, that --database names it, and that it accepts us.",
    )
