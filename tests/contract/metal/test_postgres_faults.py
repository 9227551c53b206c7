# SPDX-License-Identifier: Apache-2.0
"""What the PostgreSQL store does when connections break, and what replicas see of each other."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import msgspec
import pytest

from kits.postgres import PostgresServer
from metropolis.base.errors import UnavailableError
from metropolis.metal.store import Kind, Reader, Store, Stored, Transaction
from metropolis.metal.store.opening import open_store
from unit.metal.kit import StillClock, opened

KILL_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Thing(msgspec.Struct, kw_only=True, frozen=True):
    size: int = 0


THINGS = Kind(name="thing", type=Thing)


def adds(key: str) -> Callable[[Transaction], Awaitable[Stored[Thing]]]:
    return lambda tx: tx.insert(THINGS, key, Thing())


async def ids(store: Store) -> list[str]:
    return [each.id for each in await store.read(lambda reader: reader.find(THINGS))]


async def kill_all(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.fetch(KILL_ALL)
    await connection.close()


def test_a_connection_killed_in_the_middle_of_a_change_costs_nothing(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:
            attempts = 0

            async def killed_once(tx: Transaction) -> None:
                nonlocal attempts
                attempts += 1
                await tx.insert(THINGS, f"attempt-{attempts}", Thing())
                if attempts == 1:
                    await kill_all(postgres_url)
                await tx.insert(THINGS, "end", Thing())

            await store.write(killed_once)
            assert attempts == 2
            assert await ids(store) == ["attempt-2", "end"]

    asyncio.run(scenario())


def test_idle_connections_that_were_killed_are_replaced(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:
            await store.write(adds("a"))
            await kill_all(postgres_url)
            assert await ids(store) == ["a"]
            await kill_all(postgres_url)
            await store.write(adds("b"))
            assert await ids(store) == ["a", "b"]

    asyncio.run(scenario())


class Relay:
    """Between a store and its server: breaks the connection around one COMMIT."""

    def __init__(self, server: Path) -> None:
        self._server = server / ".s.PGSQL.5432"
        self.trouble = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(str(self._server))
        async with asyncio.TaskGroup() as tasks:
            back = tasks.create_task(self._copy(upstream_reader, writer))
            while data := await reader.read(65536):
                if b"COMMIT\0" in data and self.trouble:
                    trouble, self.trouble = self.trouble, ""
                    if trouble == "answer lost":
                        back.cancel()
                        await asyncio.wait([back])
                        upstream_writer.write(data)
                        await upstream_reader.read(1)  # it has committed
                    break
                upstream_writer.write(data)
            upstream_writer.close()
            back.cancel()
        writer.close()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@asynccontextmanager
async def relayed(server: PostgresServer, url: str) -> AsyncIterator[tuple[Relay, str]]:
    relay = Relay(server.directory)
    with tempfile.TemporaryDirectory(prefix="relay-") as directory:
        listening = await asyncio.start_unix_server(relay.serve, f"{directory}/.s.PGSQL.5432")
        async with listening:
            yield relay, url.replace(str(server.directory), directory)


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize(
    ("trouble", "runs"), [("answer lost", 1), ("request lost", 2)], ids=["answer", "request"]
)
def test_a_lost_commit_is_found_out_about_and_never_made_twice(
    postgres_server: PostgresServer, postgres_url: str, trouble: str, runs: int, serial: bool
) -> None:
    async def scenario() -> None:
        async with relayed(postgres_server, postgres_url) as (relay, url), opened(url) as store:
            await store.write(lambda tx: tx.execute("CREATE TABLE own (number bigint)"))
            attempts = 0

            async def entity(tx: Transaction) -> int:
                nonlocal attempts
                attempts += 1
                await tx.insert(THINGS, "a", Thing(size=attempts))
                return attempts

            async def row(tx: Transaction) -> int:
                nonlocal attempts
                attempts += 1
                await tx.execute("INSERT INTO own VALUES ($1)", attempts)
                return attempts

            for change in (entity, row):
                attempts = 0
                relay.trouble = trouble
                assert await store.write(change, serial=serial) == runs
                assert relay.trouble == ""
            assert await ids(store) == ["a"]
            rows = await store.read(lambda reader: reader.fetch("SELECT number FROM own"))
            assert rows == [(runs,)]

    asyncio.run(scenario())


def test_a_server_that_stays_away_is_named(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("metropolis.metal.store.postgres.PATIENCE_S", 0.1)
    name = postgres_server.new_database()

    async def scenario() -> None:
        with pytest.raises(UnavailableError, match="PostgreSQL cannot be reached"):
            await open_store(f"postgresql:///x?host={tmp_path}&user=u", clock=StillClock())
        async with opened(postgres_server.url(name)) as store:
            await store.write(adds("a"))
            await postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
            for call in (lambda: ids(store), lambda: store.write(adds("b"))):
                with pytest.raises(UnavailableError, match="PostgreSQL cannot be reached"):
                    await call()

    asyncio.run(scenario())


def test_a_server_that_became_a_standby_is_left_and_told_of(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.postgres.PATIENCE_S", 1.5)
    name = postgres_server.new_database()

    async def set_standby(value: str) -> None:
        setting = f"ALTER DATABASE {name} SET default_transaction_read_only = {value}"
        await postgres_server.execute(setting)

    async def scenario() -> None:
        async with opened(postgres_server.url(name)) as store:
            await store.write(adds("a"))
            await set_standby("on")
            await kill_all(postgres_server.url(name))
            with pytest.raises(UnavailableError, match="read-only"):
                await store.write(adds("b"))
            assert await ids(store) == ["a"]
            assert "read-only" in store.trouble
            # The connections of then are not kept: whoever leads now is found behind the address.
            await set_standby("off")
            await store.write(adds("c"))

    asyncio.run(scenario())
    asyncio.run(postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)"))


def test_a_server_whose_disk_or_memory_is_full_is_told_of(postgres_url: str) -> None:
    async def scenario() -> None:
        clock = StillClock()
        async with opened(postgres_url, clock) as store:

            async def fails(tx: Transaction) -> None:
                await tx.insert(THINGS, "a", Thing())
                await tx.execute(
                    "DO $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'full'; END $$"
                )

            with pytest.raises(UnavailableError, match="PostgreSQL cannot do it: full"):
                await store.write(fails)
            assert "full" in store.trouble
            assert await ids(store) == []
            await store.write(adds("a"))
            clock.advance(400)
            assert store.trouble == ""

    asyncio.run(scenario())


def test_a_crash_of_the_server_under_load_loses_nothing_and_makes_nothing_twice(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as one, opened(postgres_url) as two:
            await one.write(adds("counter"))
            await one.write(lambda tx: tx.execute("CREATE TABLE own (number bigint)"))
            done = 0
            reached = {20: asyncio.Event(), 60: asyncio.Event()}

            async def increment(tx: Transaction) -> None:
                old = await tx.get(THINGS, "counter")
                await tx.replace(old, Thing(size=old.value.size + 1))
                await tx.execute("INSERT INTO own VALUES ($1)", old.value.size)

            async def writer(store: Store, *, serial: bool) -> None:
                nonlocal done
                for _ in range(15):
                    await store.write(increment, serial=serial)
                    done += 1
                    if done in reached:
                        reached[done].set()

            async def crash() -> None:
                for mark in reached.values():
                    await mark.wait()
                    connection = await asyncpg.connect(postgres_url)
                    victim = await connection.fetchval("SELECT pg_backend_pid()")
                    os.kill(victim, signal.SIGKILL)  # the server restarts and recovers
                    connection.terminate()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(crash())
                for number in range(8):
                    store = (one, two)[number % 2]
                    tasks.create_task(writer(store, serial=number % 4 < 3))
            final = await one.read(lambda reader: reader.get(THINGS, "counter"))
            rows = await two.read(lambda reader: reader.fetch("SELECT number FROM own"))
            assert final.value.size == done == 120
            assert sorted(number for (number,) in rows) == list(range(120))

    asyncio.run(scenario())


def test_a_replica_that_hangs_in_a_transaction_gives_way(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.opening.IDLE_MS", 200)

    async def scenario() -> None:
        async with opened(postgres_url) as one, opened(postgres_url) as two:
            attempts = 0
            hangs, wakes = asyncio.Event(), asyncio.Event()

            async def hanging(tx: Transaction) -> None:
                nonlocal attempts
                attempts += 1
                await tx.insert(THINGS, "a", Thing())
                hangs.set()
                await wakes.wait()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(one.write(hanging))
                await hangs.wait()
                await two.write(adds("b"))
                wakes.set()
            assert attempts == 2
            assert await ids(two) == ["a", "b"]

    asyncio.run(scenario())


def test_a_change_does_not_wait_for_ever_for_another(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.opening.LOCK_MS", 100)

    async def scenario() -> None:
        async with opened(postgres_url) as store:

            async def slow(tx: Transaction) -> None:
                await tx.insert(THINGS, "a", Thing())
                with pytest.raises(UnavailableError, match="keeps the database busy"):
                    await store.write(adds("b"))

            await store.write(slow)
            assert await ids(store) == ["a"]

    asyncio.run(scenario())


def test_serial_changes_of_two_replicas_never_pass_each_other(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as one, opened(postgres_url) as two:

            async def take_place(tx: Transaction, key: str) -> bool:
                if await tx.count(THINGS) >= 3:
                    return False
                await tx.insert(THINGS, key, Thing())
                return True

            places = await asyncio.gather(
                *(
                    (one, two)[number % 2].write(lambda tx, n=number: take_place(tx, str(n)))  # type: ignore[misc]
                    for number in range(24)
                )
            )
            assert places.count(True) == 3
            assert len(await ids(one)) == 3

    asyncio.run(scenario())


def test_two_replicas_see_the_changes_of_both_in_the_same_order(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.postgres.POLL_S", 1000)  # only news wakes

    async def scenario() -> None:
        async with opened(postgres_url) as one, opened(postgres_url) as two:

            async def watch(store: Store) -> list[tuple[int, str]]:
                seen: list[tuple[int, str]] = []
                async for changes in store.watch(0):
                    seen += [(change.revision, change.id) for change in changes]
                    if len(seen) == 120:
                        break
                return seen

            async def fill(store: Store, name: str) -> None:
                for number in range(20):
                    await store.write(adds(f"{name}-{number}"), serial=number % 2 == 0)

            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(watch(store)) for store in (one, two, two)]
                for number in range(3):
                    tasks.create_task(fill(one, f"one{number}"))
                    tasks.create_task(fill(two, f"two{number}"))
            first, *others = [watcher.result() for watcher in watchers]
            assert [revision for revision, _ in first] == list(range(1, 121))
            assert others == [first, first]

    asyncio.run(scenario())


def test_a_watcher_goes_on_after_its_connection_was_killed(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store, opened(postgres_url) as other:
            await store.write(adds("a"))
            seen: list[str] = []
            async for changes in store.watch(0):
                seen += [change.id for change in changes]
                if len(seen) == 3:
                    break
                await kill_all(postgres_url)
                await other.write(adds("bc"[len(seen) - 1]))
            assert seen == ["a", "b", "c"]

    asyncio.run(scenario())


def test_replicas_that_start_together_make_the_tables_once(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.new_database(empty=True)
    url = postgres_server.url(name)

    async def scenario() -> None:
        stores = await asyncio.gather(*(open_store(url, clock=StillClock()) for _ in range(3)))
        await asyncio.gather(*(store.write(adds(str(n))) for n, store in enumerate(stores)))
        assert await ids(stores[0]) == ["0", "1", "2"]
        for store in stores:
            await store.close()

    asyncio.run(scenario())
    postgres_server.drop_database(name)


def test_the_server_of_a_killed_test_run_ends_and_leaves_no_files() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests']\n"
        "from kits.postgres import PostgresServer\n"
        "server = PostgresServer()\n"
        "print(server.directory, server._keeper.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    )
    assert run.stdin is not None
    assert run.stdout is not None
    directory, keeper = run.stdout.readline().decode().split()
    socket = Path(directory) / ".s.PGSQL.5432"
    assert socket.exists()
    keeper_ended = os.pidfd_open(int(keeper))
    run.send_signal(signal.SIGKILL)
    run.wait()
    asyncio.run(_readable(keeper_ended))
    os.close(keeper_ended)
    run.stdin.close()
    run.stdout.close()
    assert not Path(directory).exists()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    await ended.wait()
    loop.remove_reader(descriptor)


def test_whoever_gives_up_in_the_middle_leaves_nothing_to_the_next(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:

            async def look(reader: Reader) -> None:
                await reader.find(THINGS)
                await reader.count(THINGS)

            async def give_up_after(turns: int, work: Awaitable[object]) -> None:
                task = asyncio.ensure_future(work)
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

            await store.read(look)
            for turns in range(16):
                await give_up_after(turns, store.read(look))
                await give_up_after(turns, store.write(adds(f"given-up-{turns}")))
                async with asyncio.timeout(30):  # nobody holds the lock
                    await store.write(adds(f"kept-{turns}"))
                assert f"kept-{turns}" in await ids(store)

    asyncio.run(scenario())
