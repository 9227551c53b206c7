# SPDX-License-Identifier: Apache-2.0
"""Backups on schedule: rehearsed, kept, and thrown away when they are not what they should be."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from typing_extensions import override

from metropolis.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.shelf import Place, Shelf
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import FencedStore
from metropolis.consensus.scratch import Scratch
from metropolis.consensus.store import KeyValue, Store
from unit.cluster.backup_kit import Scheduled, opened, register_key
from unit.cluster.harness import Bench, run


@pytest.mark.parametrize(("interval_s", "keep"), [(1, 3), (3600, 0), (3600, 10_000), (10**9, 3)])
def test_an_impossible_schedule_is_refused(interval_s: int, keep: int) -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        with pytest.raises(InvalidArgumentError):
            await bench.leader.backups.set_schedule(interval_s=interval_s, keep=keep)

    run(scenario)


def test_a_schedule_makes_backups_rehearses_them_and_keeps_the_newest() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())
        await made.desk.set_schedule(interval_s=3600, keep=2)
        await asyncio.sleep(60)
        assert await made.generations() == [1]
        await asyncio.sleep(3 * 3600 + 120)
        assert await made.generations() == [4, 3]
        data = b"".join([piece async for piece in made.desk.read(4)])
        content = await opened(data)
        assert content.header.generation == 4
        assert "and rehearsed it in memory" in bench.log_text()
        with pytest.raises(NotFoundError):
            await anext(aiter(made.desk.read(1)))
        await made.desk.set_schedule(interval_s=0, keep=0)
        await asyncio.sleep(2 * 3600)
        assert await made.generations() == [4, 3]
        running.cancel()

    run(scenario)


def test_a_clock_that_went_back_stops_no_schedule() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())
        await made.desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(60)
        made.clock.step(timedelta(days=-300).total_seconds())
        await asyncio.sleep(60)
        assert await made.generations() == [2, 1]
        running.cancel()

    run(scenario)


def test_where_no_etcd_starts_the_rehearsal_is_in_memory_and_says_so() -> None:
    class Nothing(AbstractAsyncContextManager[Store]):
        @override
        async def __aenter__(self) -> Store:
            raise UnavailableError("no room")

        @override
        async def __aexit__(self, *_: object) -> None: ...

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench, Scratch(kind="etcd", open=Nothing))
        running = bench.group.create_task(made.desk.run())
        await made.desk.set_schedule(interval_s=3600, keep=2)
        await asyncio.sleep(60)
        (kept,) = await made.shelf.kept()
        assert kept.rehearsed_in == "memory"
        assert "The rehearsal goes on in memory: no room" in bench.log_text()
        running.cancel()

    run(scenario)


def test_what_was_damaged_on_the_disk_is_not_kept() -> None:
    made: Scheduled

    class RottenPlace(Place):
        @override
        async def write(self, piece: bytes) -> None:
            rotten = bytearray(piece)
            rotten[len(piece) // 2] ^= 1
            await super().write(bytes(rotten))

    class RottenShelf(Shelf):
        @override
        async def begin(self, generation: int) -> Place:
            await super().begin(generation)
            return RottenPlace(made.directory, f"data/backups/{generation}")

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        nonlocal made
        made = Scheduled(bench)
        made.shelf = RottenShelf(made.directory, "data/backups")
        desk = made.another_desk(bench)
        running = bench.group.create_task(desk.run())
        await desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(30)
        assert await made.generations() == []
        assert not await made.directory.list("data/backups")
        assert "damaged" in desk.last_failure
        assert "damaged" in bench.log_text()
        running.cancel()

    run(scenario)


def test_the_rehearsal_notices_a_store_that_is_not_what_was_backed_up() -> None:
    class Forgetful(FencedStore):
        """Shows a key at the first reading only."""

        seen = False

        @override
        async def page(self, *, after: bytes, revision: int, limit: int) -> Sequence[KeyValue]:
            found = await super().page(after=after, revision=revision, limit=limit)
            if Forgetful.seen:
                return [item for item in found if item.key != keys.INITIAL_OWNER]
            Forgetful.seen = True
            return found

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        desk = BackupDesk(
            DeskEdges(
                store=Forgetful(bench.store, fence=None),
                clock=made.clock,
                entropy=bench.entropy,
                log=bench.leader.log,
                ca_fingerprint=hashlib.sha256(bench.born.ca_certificate).digest(),
                shelf=made.shelf,
            )
        )
        running = bench.group.create_task(desk.run())
        await desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(30)
        assert "rehearsal failed" in desk.last_failure
        assert await made.generations() == []
        running.cancel()

    run(scenario)


def test_a_caller_who_does_not_read_keeps_neither_the_schedule_nor_others_waiting() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())

        async def never(_piece: bytes) -> None:
            await asyncio.Event().wait()

        async def sink(_piece: bytes) -> None:
            pass

        async def wait_stuck() -> None:
            with pytest.raises(DeadlineExceededError, match="slowly"):
                await made.desk.make(never)

        stuck = bench.group.create_task(wait_stuck())
        await asyncio.sleep(1)
        await made.desk.set_schedule(interval_s=3600, keep=2)
        await asyncio.sleep(30)
        assert len(await made.generations()) == 1
        next_one = bench.group.create_task(made.desk.make(sink))
        await stuck
        await next_one
        running.cancel()

    run(scenario)
