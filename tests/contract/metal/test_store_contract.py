# SPDX-License-Identifier: Apache-2.0
"""What both stores promise."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest

from metropolis.base.errors import (
    AbortedError,
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
)
from metropolis.metal.store import Change, Kind, Reader, Store, Stored, Transaction
from unit.metal.kit import NOW, StillClock, opened


class Server(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    rack: str = ""
    cores: int = 0
    serial: str = ""
    tags: tuple[str, ...] = ()
    is_locked: bool = False


SERVERS = Kind(
    name="server",
    type=Server,
    facets={
        "rack": lambda server: [server.rack],
        "cores": lambda server: [server.cores],
        "serial": lambda server: [server.serial] if server.serial else [],
        "tag": lambda server: server.tags,
        "locked": lambda server: [server.is_locked],
    },
    unique=frozenset({"serial"}),
)
NOTES = Kind(name="note", type=Server)


def adds(
    key: str, value: Server | None = None, kind: Kind[Server] = SERVERS
) -> Callable[[Transaction], Awaitable[Stored[Server]]]:
    return lambda tx: tx.insert(kind, key, value or Server())


def gets(key: str, kind: Kind[Server] = SERVERS) -> Callable[[Reader], Awaitable[Stored[Server]]]:
    return lambda reader: reader.get(kind, key)


def run(url: str, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def opened_scenario() -> None:
        async with opened(url) as store:
            await scenario(store)

    asyncio.run(opened_scenario())


def test_what_is_inserted_is_read_back_whole(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        value = Server(rack="r1 'quoted' \\ ü 🦀", cores=2**40, tags=("a", "\0"), is_locked=True)
        written = await store.write(adds("é-1", value))
        assert written.revision == 1
        assert written.created == written.changed == NOW
        assert await store.read(gets("é-1")) == written
        with pytest.raises(NotFoundError, match=r"no server 'x'"):
            await store.read(gets("x"))
        assert await store.read(lambda reader: reader.lookup(SERVERS, "nul\0")) is None
        assert await store.read(lambda reader: reader.lookup(NOTES, "é-1")) is None

    run(store_url, scenario)


def test_find_knows_facets_pages_and_order(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        async def fill(tx: Transaction) -> None:
            for number, key in enumerate(["b", "a", "é", "B", "c-1", "c1"]):
                tags = ("even", "all") if number % 2 == 0 else ("all",)
                server = Server(rack=f"r{number % 3}", cores=number, tags=tags)
                await tx.insert(SERVERS, key, server)
            await tx.insert(NOTES, "a", Server())

        await store.write(fill)

        async def keys(where: object = None, **page: object) -> list[str]:
            found = await store.read(lambda reader: reader.find(SERVERS, where, **page))  # type: ignore[arg-type]
            texts = await store.read(lambda reader: reader.texts(SERVERS, where, **page))  # type: ignore[arg-type]
            assert [msgspec.json.decode(each, type=Server) for each in texts] == [
                each.value for each in found
            ]
            if not page:
                assert await store.read(lambda reader: reader.count(SERVERS, where)) == len(found)  # type: ignore[arg-type]
            return [each.id for each in found]

        assert await keys() == ["B", "a", "b", "c-1", "c1", "é"]
        assert await keys({"tag": "even"}) == ["b", "c-1", "é"]
        assert await keys({"tag": "all", "rack": "r1"}) == ["a", "c-1"]
        assert await keys({"rack": ["r1", "r2"]}) == ["a", "c-1", "c1", "é"]
        assert await keys({"rack": []}) == []
        assert await keys({"cores": 3}) == ["B"]
        assert await keys({"cores": [3, 1]}) == ["B", "a"]
        assert await keys({"locked": False, "cores": 3}) == ["B"]
        assert await keys({"locked": True}) == []
        assert await keys({"tag": "x" * 5000}) == []
        assert await keys(after="a", limit=2) == ["b", "c-1"]
        assert await keys({"tag": "all"}, after="c-1") == ["c1", "é"]
        assert await keys(limit=0) == []
        with pytest.raises(InvalidArgumentError, match="no entity can have"):
            await keys(after="\0")

    run(store_url, scenario)


def test_a_document_comes_with_the_one_beside_it(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:

            async def fill(tx: Transaction) -> None:
                await tx.insert(SERVERS, "a", Server(rack="é"))
                await tx.insert(SERVERS, "b", Server(rack="r2"))
                await tx.insert(NOTES, "a", Server(cores=1))
                await tx.insert(NOTES, "c", Server(cores=2))

            await store.write(fill)
            a, b, note = b'{"rack":"\xc3\xa9"}', b'{"rack":"r2"}', b'{"cores":1}'
            found = await store.read(lambda reader: reader.texts_beside(SERVERS, NOTES))
            assert found == [(a, note), (b, None)]
            found = await store.read(
                lambda reader: reader.texts_beside(SERVERS, NOTES, {"rack": "r2"}, after="a")
            )
            assert found == [(b, None)]

            async def one(key: str) -> tuple[bytes, bytes | None, int] | None:
                return await store.read(
                    lambda reader: reader.text_beside(SERVERS, NOTES, key, (SERVERS, NOTES))
                )

            assert await one("a") == (a, note, 1)
            assert await one("b") == (b, None, 1)
            assert await one("c") is None
            assert await one("\0") is None
            await store.write(lambda tx: tx.insert(NOTES, "b", Server()))
            assert await one("b") == (b, b"{}", 2)

    asyncio.run(scenario())


def test_replace_moves_facets_and_keeps_the_birthday(store_url: str) -> None:
    clock = StillClock()

    async def scenario() -> None:
        async with opened(store_url, clock) as store:
            first = await store.write(adds("a", Server(rack="r1", tags=("x", "y"))))
            clock.advance(5)
            value = Server(rack="r2", tags=("y", "z" * 3000))
            second = await store.write(lambda tx: tx.replace(first, value))
            assert second == await store.read(gets("a"))
            assert second.created == NOW
            assert second.changed == NOW + timedelta(seconds=5)
            for where, count in (
                ({"rack": "r1"}, 0),
                ({"rack": "r2"}, 1),
                ({"tag": "x"}, 0),
                ({"tag": "y"}, 1),
                ({"tag": "z" * 3000}, 1),
            ):
                assert await store.read(lambda reader, w=where: reader.count(SERVERS, w)) == count  # type: ignore[misc]
            await store.write(lambda tx: tx.delete(second))
            assert await store.read(lambda reader: reader.fetch("SELECT id FROM facet")) == []

    asyncio.run(scenario())


def test_who_comes_second_is_told(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        first = await store.write(adds("a"))
        await store.write(lambda tx: tx.replace(first, Server(rack="won")))
        with pytest.raises(AbortedError, match="server 'a' was changed by somebody else"):
            await store.write(lambda tx: tx.replace(first, Server(rack="lost")))
        with pytest.raises(AbortedError):
            await store.write(lambda tx: tx.delete(first))
        newest = await store.read(gets("a"))
        assert newest.value.rack == "won"
        await store.write(lambda tx: tx.delete(newest))
        with pytest.raises(AbortedError):
            await store.write(lambda tx: tx.replace(newest, Server()))

    run(store_url, scenario)


def test_one_transaction_may_touch_an_entity_again_and_again(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        async def busy(tx: Transaction) -> None:
            one = await tx.insert(SERVERS, "a", Server(rack="r1", serial="s"))
            two = await tx.replace(one, Server(rack="r2", serial="s"))
            await tx.delete(two)
            again = await tx.insert(SERVERS, "a", Server(rack="r3", serial="s"))
            await tx.replace(again, Server(rack="r4"))
            assert [each.id for each in await tx.find(SERVERS, {"rack": "r4"})] == ["a"]
            gone = await tx.insert(SERVERS, "gone", Server(serial="s"))
            await tx.delete(gone)
            assert await tx.revision() == await tx.revision(SERVERS) == 1

        await store.write(busy)
        assert (await store.read(gets("a"))).value.rack == "r4"
        async for changes in store.watch(0):
            assert changes == [Change(revision=1, kind="server", id="a", operation="insert")]
            break

    run(store_url, scenario)


def test_unique_facets_are_unique_and_say_whose(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(adds("a", Server(serial="s1")))
        other = await store.write(adds("b", Server(serial="s2")))
        with pytest.raises(AlreadyExistsError, match="server 'a' has the serial 's1' already"):
            await store.write(adds("c", Server(serial="s1")))
        with pytest.raises(AlreadyExistsError, match="'s1'"):
            await store.write(lambda tx: tx.replace(other, Server(serial="s1")))
        same = await store.write(lambda tx: tx.replace(other, Server(serial="s2", rack="new")))
        await store.write(lambda tx: tx.delete(same))
        await store.write(adds("d", Server(serial="s2")))
        await store.write(adds("e", Server()))
        await store.write(adds("f", Server()))

    run(store_url, scenario)


def test_a_refused_insert_spoils_nothing_when_the_change_goes_on(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(adds("a", Server(serial="s1")))

        async def tries(tx: Transaction) -> str:
            for key, serial in (("a", "s2"), ("b", "s1"), ("b", "s2")):
                try:
                    return (await tx.insert(SERVERS, key, Server(serial=serial))).id
                except AlreadyExistsError:
                    continue
            raise AssertionError

        assert await store.write(tries) == "b"
        found = await store.read(lambda reader: reader.find(SERVERS))
        assert [(each.id, each.value.serial) for each in found] == [("a", "s1"), ("b", "s2")]
        assert await store.read(lambda reader: reader.count(SERVERS, {"serial": "s2"})) == 1

    run(store_url, scenario)


@pytest.mark.parametrize("key", ["", "x" * 1025, "a\0b", "\ud800"])
def test_an_id_that_cannot_be_stored_is_refused(store_url: str, key: str) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(InvalidArgumentError, match="server"):
            await store.write(adds(key))
        assert await store.read(lambda reader: reader.count(SERVERS)) == 0

    run(store_url, scenario)


def test_an_exception_leaves_nothing_behind(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: tx.execute("CREATE TABLE own (number bigint)"))
        kept = await store.write(adds("kept"))

        async def fails(tx: Transaction) -> None:
            await tx.insert(SERVERS, "a", Server(serial="s"))
            await tx.replace(kept, Server(rack="changed"))
            await tx.send("topic", Server())
            await tx.execute("INSERT INTO own (number) VALUES ($1)", 7)
            raise LookupError("on purpose")

        with pytest.raises(LookupError, match="on purpose"):
            await store.write(fails)
        assert await store.read(lambda reader: reader.find(SERVERS)) == [kept]
        for table in ("facet WHERE name = 'serial'", "outbox", "outbox_topic", "own"):
            assert (
                await store.read(
                    lambda reader, t=table: reader.fetch(f"SELECT * FROM {t}")  # type: ignore[misc]
                )
                == []
            )
        assert await store.read(lambda reader: reader.revision()) == 1

    run(store_url, scenario)


def test_thirty_two_writers_lose_nothing(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(adds("counter"))

        async def increment(tx: Transaction) -> int:
            old = await tx.get(SERVERS, "counter")
            new = await tx.replace(old, Server(cores=old.value.cores + 1))
            return new.value.cores

        async def writer(number: int) -> list[int]:
            return [
                await store.write(increment, serial=(number + turn) % 2 == 0) for turn in range(8)
            ]

        counts = await asyncio.gather(*(writer(number) for number in range(32)))
        assert sorted(count for each in counts for count in each) == list(range(1, 257))
        last = await store.read(gets("counter"))
        assert last.value.cores == 256
        assert last.revision == await store.read(lambda reader: reader.revision())

    run(store_url, scenario)


def test_a_view_is_consistent_while_others_write(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(adds("a", Server(cores=0)))
        await store.write(adds("b", Server(cores=0)))
        is_done = False

        async def both(tx: Transaction) -> None:
            for key in ("a", "b"):
                old = await tx.get(SERVERS, key)
                await tx.replace(old, Server(cores=old.value.cores + 1))

        async def write() -> None:
            nonlocal is_done
            for _ in range(60):
                await store.write(both)
            is_done = True

        async def read() -> int:
            looks = 0
            while not is_done:
                looks += 1

                async def view(reader: Reader) -> tuple[int, int, int]:
                    first = await reader.get(SERVERS, "a")
                    revision = await reader.revision(SERVERS)
                    second = await reader.get(SERVERS, "b")
                    return first.value.cores, second.value.cores, revision - first.revision

                one, two, difference = await store.read(view)
                assert one == two
                assert difference == 0 or one == 0
                await asyncio.sleep(0)
            return looks

        _, looks = await asyncio.gather(write(), read())
        assert looks > 5

    run(store_url, scenario)


def test_revisions_of_kinds_move_only_with_their_kinds(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        async def revisions() -> tuple[int, int, int, int]:
            async def view(reader: Reader) -> tuple[int, int, int, int]:
                return (
                    await reader.revision(),
                    await reader.revision(SERVERS),
                    await reader.revision(NOTES),
                    await reader.revision(SERVERS, NOTES),
                )

            return await store.read(view)

        assert await revisions() == (0, 0, 0, 0)
        one = await store.write(adds("a"))
        assert await revisions() == (1, 1, 0, 1)
        await store.write(adds("n", kind=NOTES))
        assert await revisions() == (2, 1, 2, 2)
        await store.write(lambda tx: tx.delete(one))
        assert await revisions() == (3, 3, 2, 3)

    run(store_url, scenario)


def test_watch_tells_every_change_once_in_order_from_where_it_is_asked(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        one = await store.write(adds("a"))

        async def watch(after: int, count: int) -> list[tuple[int, str, str]]:
            seen: list[tuple[int, str, str]] = []
            async for changes in store.watch(after):
                seen += [(change.revision, change.id, change.operation) for change in changes]
                if len(seen) >= count:
                    break
            return seen

        async with asyncio.TaskGroup() as tasks:
            early = tasks.create_task(watch(0, 5))
            late = tasks.create_task(watch(1, 4))
            await asyncio.sleep(0)

            async def several(tx: Transaction) -> None:
                await tx.insert(SERVERS, "c", Server())
                await tx.insert(SERVERS, "b", Server())

            await store.write(several)
            two = await store.write(lambda tx: tx.replace(one, Server(rack="x")))
            await store.write(lambda tx: tx.delete(two))
        expected = [
            (1, "a", "insert"),
            (2, "b", "insert"),
            (2, "c", "insert"),
            (3, "a", "replace"),
            (4, "a", "delete"),
        ]
        assert early.result() == expected
        assert late.result() == expected[1:]

    run(store_url, scenario)


def test_history_that_is_gone_or_never_was_is_not_made_up(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.work.REVISIONS_KEPT", 10)
    monkeypatch.setattr("metropolis.metal.store.work.PRUNE_EVERY", 4)

    async def scenario(store: Store) -> None:
        for number in range(25):
            await store.write(adds(f"{number:02}"))
        for after in (0, 13, 26):
            with pytest.raises(
                OutOfRangeError, match=f"known from revision 14 to 25, not from {after}"
            ):
                async for _ in store.watch(after):
                    pass
        async for changes in store.watch(14):
            assert [change.revision for change in changes] == list(range(15, 26))
            break
        rows = await store.read(lambda reader: reader.fetch("SELECT count(*) FROM change"))
        assert rows == [(11,)]

    run(store_url, scenario)


def test_messages_of_a_topic_are_numbered_without_holes(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        async def sends(tx: Transaction) -> None:
            await tx.send("a", Server(rack="1"))
            await tx.send("b", Server())
            await tx.send("a", Server(rack="2"))

        async def fails(tx: Transaction) -> None:
            await tx.send("a", Server())
            raise LookupError

        await store.write(sends)
        with pytest.raises(LookupError):
            await store.write(fails)
        await store.write(sends, serial=False)
        rows = await store.read(
            lambda reader: reader.fetch(
                "SELECT topic, sequence, payload FROM outbox WHERE topic = $1 ORDER BY sequence",
                "a",
            )
        )
        assert rows == [
            ("a", 1, '{"rack":"1"}'),
            ("a", 2, '{"rack":"2"}'),
            ("a", 3, '{"rack":"1"}'),
            ("a", 4, '{"rack":"2"}'),
        ]
        async for changes in store.watch(0):
            assert [(change.kind, change.id) for change in changes] == [
                ("outbox", "a"),
                ("outbox", "b"),
            ] * 2
            break

    run(store_url, scenario)


def test_rooms_run_statements_on_tables_of_their_own(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        binary = "bytea" if store.dialect == "postgres" else "BLOB"
        await store.write(
            lambda tx: tx.execute(
                f"CREATE TABLE own (id text PRIMARY KEY, number bigint, raw {binary})"
            )
        )

        async def own(tx: Transaction) -> tuple[int, list[tuple[object, ...]]]:
            for key, number in (("a", 1), ("b", 2), ("c", 3)):
                await tx.execute(
                    "INSERT INTO own (id, number, raw) VALUES ($1, $2, $3)", key, number, b"\0\xff"
                )
            count = await tx.execute("UPDATE own SET number = number * $1 WHERE id < $2", 10, "c")
            return count, await tx.fetch(
                "UPDATE own SET number = 0 WHERE number = $2 RETURNING id, number, raw, $1::text"
                if tx.dialect == "postgres"
                else "UPDATE own SET number = 0 WHERE number = $2 RETURNING id, number, raw, $1",
                "again",
                20,
            )

        assert await store.write(own, serial=False) == (2, [("b", 0, b"\0\xff", "again")])
        assert await store.read(lambda reader: reader.revision()) == 0

    run(store_url, scenario)
