# SPDX-License-Identifier: Apache-2.0
"""Backups on both databases: what is restored is what was there, and damage is told."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kits.postgres import PostgresServer
from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    NotFoundError,
    OutOfRangeError,
    UnavailableError,
)
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.backup.backups import (
    Vault,
    create_backup,
    list_backups,
    restore_backup,
    restore_if_empty,
    verify_backup,
)
from metropolis.metal.backup.schedule import Plan, back_up_once
from metropolis.metal.backup.shelf import DirectoryShelf, S3Shelf, Shelf
from metropolis.metal.ipam.addresses import acquire_address
from metropolis.metal.ipam.prefixes import create_prefix
from metropolis.metal.messages.outbox import acknowledge_up_to, read_messages
from metropolis.metal.store import Kind, Reader, Store, Transaction
from unit.metal.inventory.s3_server import s3_server
from unit.metal.kit import NOW, StillClock, opened

SECRET = bytes(range(32))


class Server(msgspec.Struct, kw_only=True, frozen=True):
    rack: str = ""
    serial: str = ""


SERVERS = Kind(
    name="server",
    type=Server,
    facets={"rack": lambda server: [server.rack], "serial": lambda server: [server.serial]},
    unique=frozenset({"serial"}),
)


def vault_on(shelf: Shelf, clock: StillClock, secret: bytes = SECRET) -> Vault:
    return Vault(shelf=shelf, secret=secret, kinds=(SERVERS,), clock=clock, entropy=LinuxEntropy())


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def vault(tmp_path: Path, clock: StillClock) -> Vault:
    return vault_on(DirectoryShelf(tmp_path / "backups"), clock)


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A function that returns the address of a database that does not exist or has no tables."""
    made: list[str] = []

    def make(dialect: str) -> str:
        if dialect == "sqlite":
            made.append("")
            return str(tmp_path / f"metal-{len(made)}.db")
        server: PostgresServer = request.getfixturevalue("postgres_server")
        made.append(server.new_database(empty=True))
        return server.url(made[-1])

    yield make
    for name in filter(None, made):
        request.getfixturevalue("postgres_server").drop_database(name)


async def fill(store: Store) -> None:
    async def change(tx: Transaction) -> None:
        for number in range(700):
            server = Server(rack=f"r{number % 7}", serial=f"ü{number}\0")
            await tx.insert(SERVERS, f"{number:04}", server)
        for _ in range(3):
            await tx.send("topic", Server())
        await acknowledge_up_to(tx, topic="topic", consumer="c", sequence=2)
        await create_prefix(tx, "10.0.0.0/24")
        await acquire_address(tx, "10.0.0.0/24")

    await store.write(change)


async def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    async def view(reader: Reader) -> dict[str, list[tuple[object, ...]]]:
        return {
            table: [
                tuple(row) for row in await reader.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
            ]
            for table in ("entity", "outbox", "consumer", "ipam_prefix", "ipam_address")
        } | {"facet": await reader.fetch("SELECT kind, name, value, id FROM facet ORDER BY 4, 2")}

    return await store.read(view)


@pytest.mark.parametrize(
    ("source", "target"),
    [("sqlite", "sqlite"), ("sqlite", "postgres"), ("postgres", "sqlite"), ("postgres",) * 2],
    ids=["same", "to postgres", "to sqlite", "same on postgres"],
)
def test_what_is_restored_is_what_was_there(
    vault: Vault, new_database: Callable[[str], str], source: str, target: str
) -> None:
    async def scenario() -> None:
        url = new_database(source)
        async with opened(url) as store:
            await fill(store)
            before = await everything(store)
            backup = await create_backup(vault, url)  # while it is served
            assert (backup.created, backup.revision) == (NOW, 1)
        assert await list_backups(vault.shelf) == [backup]
        restored = new_database(target)
        assert await restore_backup(vault, restored) == backup
        async with opened(restored) as store:
            assert await everything(store) == before
            found = await store.read(lambda reader: reader.find(SERVERS, {"serial": "ü7\0"}))
            assert [each.id for each in found] == ["0007"]

    asyncio.run(scenario())


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_nothing_given_out_before_a_restore_is_given_out_again(
    vault: Vault, new_database: Callable[[str], str], dialect: str
) -> None:
    async def scenario() -> None:
        url = new_database(dialect)
        async with opened(url) as store:
            await fill(store)
            await create_backup(vault, url)
            lost = await store.write(lambda tx: tx.insert(SERVERS, "lost", Server(serial="x")))
            await store.write(lambda tx: tx.send("topic", Server()))
        restored = new_database(dialect)
        await restore_backup(vault, restored)
        async with opened(restored) as store:
            with pytest.raises(OutOfRangeError):
                async for _ in store.watch(lost.revision):
                    pass
            assert await store.read(lambda reader: reader.revision(SERVERS)) > lost.revision + 1000
            await store.write(lambda tx: tx.send("topic", Server()))
            messages = await store.read(lambda reader: read_messages(reader, "topic", after=2))
            assert [each.sequence for each in messages] == [3, 1_000_004]

    asyncio.run(scenario())


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_only_an_empty_database_is_restored_into_and_only_a_full_one_backed_up(
    vault: Vault, new_database: Callable[[str], str], dialect: str
) -> None:
    async def scenario() -> None:
        url, other = new_database(dialect), new_database(dialect)
        async with opened(url) as store:
            with pytest.raises(FailedPreconditionError, match="empty"):
                await create_backup(vault, url)
            assert await restore_if_empty(vault, other) is None
            await fill(store)
        assert await restore_if_empty(vault, other) is None
        backup = await create_backup(vault, url)
        with pytest.raises(AlreadyExistsError, match="not empty"):
            await restore_backup(vault, url)
        assert await restore_if_empty(vault, url) is None
        async with opened(other):
            pass  # has tables, and nothing in them
        replicas = 1 if dialect == "sqlite" else 3
        starts = await asyncio.gather(*(restore_if_empty(vault, other) for _ in range(replicas)))
        assert [each for each in starts if each is not None] == [backup]
        async with opened(other) as store:
            assert await store.read(lambda reader: reader.count(SERVERS)) == 700

    asyncio.run(scenario())


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    place = len(data) * 2 // 3
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _older_header(data: bytes) -> bytes:
    return data.replace(b'"revision":2', b'"revision":1')


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        _older_header,
        lambda data: data + b"more",
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda _: b"",
        lambda data: b"x" + data,
    ],
    ids=["half", "bit", "header", "longer", "shorter", "no header", "empty", "no magic"],
)
def test_a_damaged_backup_is_refused_and_the_one_before_it_offered(
    vault: Vault, clock: StillClock, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    async def scenario() -> None:
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
            good = await create_backup(vault, url)
            clock.advance(60)
            await store.write(lambda tx: tx.insert(SERVERS, "new", Server()))
            bad = await create_backup(vault, url)
        file = tmp_path / "backups" / bad.name
        file.write_bytes(damage(file.read_bytes()))
        empty = str(tmp_path / "empty.db")
        for attempt in (
            verify_backup(vault, bad.name),
            restore_backup(vault, empty),
            restore_if_empty(vault, empty),
        ):
            with pytest.raises(DataLossError, match=f"{bad.name}: this backup is damaged") as told:
                await attempt
            assert told.value.remedy.endswith(f"`metropolis metal backup restore {good.name}`.")
        assert await restore_backup(vault, empty, good.name) == good

    asyncio.run(scenario())


def test_another_key_is_told_from_damage(vault: Vault, clock: StillClock, tmp_path: Path) -> None:
    async def scenario() -> None:
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
        backup = await create_backup(vault, url)
        other = vault_on(vault.shelf, clock, bytes(32))
        with pytest.raises(FailedPreconditionError, match="is encrypted with key"):
            await verify_backup(other, backup.name)
        content = (tmp_path / "backups" / backup.name).read_bytes()
        assert b"server" not in content
        assert (tmp_path / "backups" / backup.name).stat().st_mode & 0o777 == 0o600

    asyncio.run(scenario())


def test_a_backup_of_a_newer_release_is_refused(vault: Vault, tmp_path: Path) -> None:
    async def scenario() -> None:
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
        backup = await create_backup(vault, url)
        file = tmp_path / "backups" / backup.name
        data = file.read_bytes()
        version = f'"schema_version":{backup.schema_version}'.encode()
        assert data.count(version) == 1
        file.write_bytes(data.replace(version, b'"schema_version":9'))
        with pytest.raises(FailedPreconditionError, match="schema version 9, this program knows"):
            await restore_backup(vault, str(tmp_path / "empty.db"))

    asyncio.run(scenario())


@pytest.mark.parametrize("target", ["sqlite", "postgres"])
def test_a_backup_of_every_older_schema_is_brought_up_to_date(
    vault: Vault, new_database: Callable[[str], str], target: str, tmp_path: Path
) -> None:
    from metropolis.metal.store.migrations import MIGRATIONS  # noqa: PLC0415
    from metropolis.metal.store.sqlite import open_sqlite  # noqa: PLC0415

    async def scenario() -> None:
        for version in range(1, len(MIGRATIONS)):
            url = str(tmp_path / f"old-{version}.db")
            old = await open_sqlite(url, clock=StillClock(), migrations=MIGRATIONS[:version])
            await old.write(lambda tx: tx.insert(SERVERS, "a", Server(rack="r")))
            await old.close()
            backup = await create_backup(vault, url)
            assert backup.schema_version == version
            restored = new_database(target)
            await restore_backup(vault, restored, backup.name)
            async with opened(restored) as store:
                assert await store.read(lambda reader: reader.count(SERVERS, {"rack": "r"})) == 1
                await fill(store)

    asyncio.run(scenario())


@contextmanager
def _directory(path: Path) -> Iterator[Shelf]:
    yield DirectoryShelf(path / "new" / "shelf")


@contextmanager
def _bucket(_: Path) -> Iterator[Shelf]:
    with s3_server() as settings:
        yield S3Shelf(settings, prefix="/site-1/")


@pytest.mark.parametrize("kind", [_directory, _bucket], ids=["directory", "s3"])
def test_shelves_keep_whole_files_by_name(
    kind: Callable[[Path], AbstractContextManager[Shelf]], tmp_path: Path, clock: StillClock
) -> None:
    async def scenario(shelf: Shelf) -> None:
        vault = vault_on(shelf, clock)
        assert await list_backups(shelf) == []
        with pytest.raises(NotFoundError):
            await restore_backup(vault, str(tmp_path / "empty.db"))
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
        one = await create_backup(vault, url)
        clock.advance(1)
        two = await create_backup(vault, url)
        assert await list_backups(shelf) == [one, two]
        await shelf.remove(one.name)
        await shelf.remove(one.name)
        assert await list_backups(shelf) == [two]
        await verify_backup(vault, two.name)
        with pytest.raises(NotFoundError):
            await verify_backup(vault, one.name)

    with kind(tmp_path) as shelf:
        asyncio.run(scenario(shelf))


def test_a_shelf_that_cannot_be_written_is_named_and_keeps_nothing(
    clock: StillClock, tmp_path: Path
) -> None:
    async def scenario() -> None:
        (tmp_path / "file").write_text("in the way")
        vault = vault_on(DirectoryShelf(tmp_path / "file" / "backups"), clock)
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
        with pytest.raises(UnavailableError, match="backups cannot be kept in"):
            await create_backup(vault, url)

    asyncio.run(scenario())


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_schedule_makes_one_backup_per_period_and_removes_the_old_ones(
    vault: Vault, clock: StillClock, new_database: Callable[[str], str], dialect: str
) -> None:
    plan = Plan(every=timedelta(minutes=10), keep=3, keep_days=1)

    async def scenario() -> None:
        url = new_database(dialect)
        async with opened(url, clock) as store:
            assert await back_up_once(vault, store, url, plan) is None  # empty
            clock.advance(600)
            await fill(store)
            replicas = await asyncio.gather(
                *(back_up_once(vault, store, url, plan) for _ in range(3))
            )
            assert len([each for each in replicas if each]) == 1
            clock.advance(600)
            assert await back_up_once(vault, store, url, plan) is None  # nothing has changed
            clock.advance(86400)
            assert await back_up_once(vault, store, url, plan) is not None  # but it is a day old
            for number in range(4):
                clock.advance(600)
                await store.write(
                    lambda tx, n=number: tx.insert(SERVERS, f"n{n}", Server(serial=f"s{n}"))  # type: ignore[misc]
                )
                assert await back_up_once(vault, store, url, plan) is not None
            kept = await list_backups(vault.shelf)
            assert [each.revision for each in kept] == [1, 2, 3, 4, 5]
            clock.advance(2 * 86400)
            assert await back_up_once(vault, store, url, plan) is not None
            assert [each.revision for each in await list_backups(vault.shelf)] == [4, 5, 5]

    asyncio.run(scenario())


def test_a_backup_larger_than_memory_allows_leaves_no_file_behind(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.backup.backups._IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    async def scenario() -> None:
        url = str(tmp_path / "metal.db")
        async with opened(url) as store:
            await fill(store)
        await verify_backup(vault, (await create_backup(vault, url)).name)

    asyncio.run(scenario())
    assert list((tmp_path / "scratch").iterdir()) == []
