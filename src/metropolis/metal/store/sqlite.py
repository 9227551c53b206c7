# SPDX-License-Identifier: Apache-2.0
"""The store in one SQLite file, or in memory: one process, no server, no threads.

Every statement runs on the event loop's own thread; it takes microseconds, and a commit as long as
the disk needs. Changes are committed in groups: whoever is ready writes into the same transaction,
one after the other, each under a savepoint of its own, and all are answered after the one commit.

    write ──┐                       BEGIN IMMEDIATE
    write ──┼── queue ── flush ──>    SAVEPOINT, change, RELEASE  (or ROLLBACK TO: nobody else
    write ──┘                         SAVEPOINT, change, RELEASE   is touched by it)
                                    COMMIT ──> answers, watchers

Since a change awaits nothing but its transaction, none of this ever lets go of the loop: no reader
can see half of a group. A function that awaits anything else is refused.
"""

import asyncio
import contextvars
import os
import sqlite3
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, final

from typing_extensions import override

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.host import Clock
from metropolis.metal.store.documents import Facet
from metropolis.metal.store.history import Tail, changes_after
from metropolis.metal.store.interface import Change, Reader, Transaction
from metropolis.metal.store.migrating import check_version, pending
from metropolis.metal.store.migrations import MIGRATIONS, Migration
from metropolis.metal.store.queries import sqlite_statement
from metropolis.metal.store.trouble import Trouble
from metropolis.metal.store.view import View
from metropolis.metal.store.work import Operation, Work

ResultT = TypeVar("ResultT")

MEMORY: Final = ":memory:"
GROUP_MAX: Final = 128  # changes in one commit: bounds how long the loop is held
BUSY_S: Final = 5.0  # while another process (a backup, an operator's shell) holds the file
POLL_S: Final = 1.0  # between looks at what another process may have changed
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",  # KiB, negative
    "PRAGMA mmap_size = 268435456",
    "PRAGMA temp_store = MEMORY",
)
_DISK_ERRORS: Final = frozenset(
    {  # whatever else goes wrong is our own fault
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_AUTH,
    }
)


class _View(View):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__("sqlite")
        self._connection = connection

    @override
    async def _rows(self, sql: str, args: Sequence[Any]) -> Sequence[Any]:
        return self._connection.execute(sqlite_statement(sql), args).fetchall()


class _Work(_View, Work):
    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        Work.__init__(self, "sqlite", clock.wall())
        self._connection = connection

    @override
    async def _run(self, sql: str, args: Sequence[Any]) -> int:
        return self._connection.execute(sqlite_statement(sql), args).rowcount

    @override
    async def _insert_row(self, row: Sequence[Any], facets: Sequence[Facet]) -> bool:
        done = self._connection.execute(
            "INSERT INTO entity (kind, id, revision, created, changed, doc)"
            " VALUES (?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT DO NOTHING",
            row,
        )
        if done.rowcount and facets:
            await self._add_facets(row[0], row[1], facets)
        return bool(done.rowcount)

    @override
    async def _add_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None:
        self._connection.executemany(
            "INSERT INTO facet (kind, name, value, id, is_unique) VALUES (?, ?, ?, ?, ?)",
            [(kind, facet.name, facet.value, key, facet.is_unique) for facet in facets],
        )

    @override
    async def _remove_facets(self, kind: str, key: str, facets: Sequence[Facet]) -> None:
        self._connection.executemany(
            "DELETE FROM facet WHERE kind = ? AND name = ? AND value = ? AND id = ?",
            [(kind, facet.name, facet.value, key) for facet in facets],
        )

    @override
    async def _record(self, revision: int, changes: Sequence[tuple[str, str, Operation]]) -> None:
        self._connection.executemany(
            "INSERT INTO change (revision, kind, id, operation) VALUES (?, ?, ?, ?)",
            [(revision, *change) for change in changes],
        )
        self._connection.executemany(
            "INSERT INTO kind_revision (kind, revision) VALUES (?1, ?2)"
            " ON CONFLICT (kind) DO UPDATE SET revision = ?2",
            [(kind, revision) for kind in dict.fromkeys(change[0] for change in changes)],
        )


@dataclass(slots=True, kw_only=True)
class _Job:
    change: Callable[[Transaction], Awaitable[Any]]
    context: contextvars.Context
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


@final
class SqliteStore:
    """A `Store` in SQLite; made by `open_sqlite`."""

    def __init__(self, path: str, clock: Clock, writer: sqlite3.Connection) -> None:
        self._path = path
        self._clock = clock
        self._writer = writer
        self._reader = writer if path == MEMORY else _connect(path)
        self._queue: deque[_Job] = deque()
        self._trouble = Trouble(clock)
        self._tail = Tail(
            lambda after: self.read(lambda reader: changes_after(reader, after)),
            poll_s=None if path == MEMORY else POLL_S,
        )
        if path != MEMORY:
            self._reader.execute("PRAGMA query_only = ON")

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        """Which database this is."""
        return "sqlite"

    @property
    def trouble(self) -> str:
        """Why a change was not kept lately; empty when all were."""
        return self._trouble.text

    async def read(self, view: Callable[[Reader], Awaitable[ResultT]]) -> ResultT:
        """Run a function on a consistent view; it may await nothing but the view."""
        assert not self._writer.in_transaction, "a view inside of a transaction sees half of it"
        try:
            self._reader.execute("BEGIN")
            return _drive(view(_View(self._reader)))
        except sqlite3.Error as cause:
            if not _is_of_the_disk(cause):
                raise
            raise _unavailable(self._path, cause) from cause
        finally:
            if self._reader.in_transaction:
                self._reader.execute("ROLLBACK")

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        """Run a function as one transaction; it may await nothing but the transaction.

        Here every transaction is serial.
        """
        del serial
        loop = asyncio.get_running_loop()
        job = _Job(change=change, context=contextvars.copy_context(), answer=loop.create_future())
        self._queue.append(job)
        if len(self._queue) == 1:
            loop.call_soon(self._flush)  # whoever is ready now still joins the group
        return await job.answer  # type: ignore[no-any-return]  # of the function above

    async def once(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # of a row
        """Run one statement as a transaction of its own."""
        return await self.write(lambda tx: tx.fetch(sql, *args))

    def watch(self, after: int) -> AsyncGenerator[Sequence[Change]]:
        """Yield changes after a revision as they are committed, in order."""
        return self._tail.watch(after, _at_once)

    async def close(self) -> None:
        """Release the file. Nothing may be going on."""
        self._reader.close()
        self._writer.close()

    def _flush(self) -> None:
        jobs: list[_Job] = []
        while self._queue and len(jobs) < GROUP_MAX:
            job = self._queue.popleft()
            if not job.answer.done():  # its caller may have gone away
                jobs.append(job)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._flush)
        if not jobs:
            return
        has_changes = self._commit(jobs)
        for job in jobs:
            if job.answer.done():
                continue
            if job.error is not None:
                job.answer.set_exception(job.error)
            else:
                job.answer.set_result(job.result)
        if has_changes:
            self._tail.wake()

    def _commit(self, jobs: Sequence[_Job]) -> bool:
        connection = self._writer
        has_changes = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                has_changes |= self._run_one(job)
            connection.execute("COMMIT")
        except sqlite3.Error as cause:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            error = self._judge(cause)
            for job in jobs:
                job.error = error
            return False
        return has_changes

    def _judge(self, cause: sqlite3.Error) -> Exception:
        if not _is_of_the_disk(cause):
            return cause
        self._trouble.tell(str(cause))
        return _unavailable(self._path, cause)

    def _run_one(self, job: _Job) -> bool:
        connection = self._writer
        work = _Work(connection, self._clock)
        connection.execute("SAVEPOINT change")
        try:
            job.result = job.context.run(_drive, _whole(job.change, work))
        except sqlite3.Error as cause:
            if not connection.in_transaction:  # a full or broken disk took the whole group
                raise
            job.error = self._judge(cause)
        except Exception as error:  # noqa: BLE001  # it is its caller's
            job.error = error
        if job.error is not None:
            connection.execute("ROLLBACK TO change")
        connection.execute("RELEASE change")
        return job.error is None and work.changed is not None


async def _whole(change: Callable[[Transaction], Awaitable[ResultT]], work: Work) -> ResultT:
    result = await change(work)
    await work.finish()
    return result


def _drive(awaitable: Awaitable[ResultT]) -> ResultT:
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # of the coroutine
    steps.close()
    raise AssertionError("this function awaits something else than its view or transaction")


async def _at_once() -> None:
    pass


def _is_of_the_disk(cause: sqlite3.Error) -> bool:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in _DISK_ERRORS


def _unavailable(path: str, cause: sqlite3.Error) -> MetropolisError:
    return UnavailableError(
        f"the database {path} cannot be used: {cause}",
        remedy="Check the disk's free space and health, and that no other program holds the file.",
    )


def create_private(path: str) -> None:
    """Make a file that nobody else can read, where there is none: passwords of BMCs will be inside.

    One that exists is not touched. To open and close it would release every lock that this process
    has on it, as POSIX has it: another process that looks into the database would take it for left,
    and remove the log into which we write.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _connect(path: str) -> sqlite3.Connection:
    if path != MEMORY:
        create_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, cached_statements=512)
    for setting in _SETTINGS:
        connection.execute(setting)
    return connection


async def open_sqlite(
    path: str, *, clock: Clock, migrations: Sequence[Migration] = MIGRATIONS
) -> SqliteStore:
    """Open a database, create it when there is none, and bring it to the newest schema.

    Args:
        path: Of the file, or ":memory:".
        migrations: Less than all of them only in tests.

    Raises:
        UnavailableError: it cannot be opened.
        FailedPreconditionError: a newer release has written it.
    """
    try:
        connection = _connect(path)
        _migrate(connection, migrations)
    except (OSError, sqlite3.Error) as cause:
        raise UnavailableError(
            f"the database {path} cannot be opened: {cause}",
            remedy="Check the path, its permissions and the disk's free space.",
        ) from cause
    return SqliteStore(path, clock, connection)


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        check_version(version, migrations)
        for migration in pending(version, migrations):
            for statement in migration.of("sqlite"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.close()
        raise
