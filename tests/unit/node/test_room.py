# SPDX-License-Identifier: Apache-2.0
"""When a disk is full, when its reserve is given up, and when all is well again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from metropolis.cluster.planner.room import FULL_BYTES
from metropolis.host.sim.clock import SimClock
from metropolis.node.partition import Room, StorageSecurity
from metropolis.node.room import (
    AMPLE_BYTES,
    DOWN_S,
    ENOUGH_BYTES,
    LOOK_S,
    RESERVE_BYTES,
    Step,
    decide,
    keep_room,
)
from metropolis.pki.unlock import DiskKey
from metropolis.sim import simulate
from metropolis.supervision import LogTree, Supervisor, Value

KEPT, GIVEN_UP = RESERVE_BYTES, 0
AGAIN = RESERVE_BYTES + ENOUGH_BYTES


@pytest.mark.parametrize("is_member_down", [False, True])
@pytest.mark.parametrize(
    ("reserve_bytes", "free_bytes", "was_full", "is_full", "step"),
    [
        (None, AMPLE_BYTES, False, False, Step.MAKE),
        (None, AMPLE_BYTES - 1, False, False, Step.NOTHING),
        (None, FULL_BYTES - 1, False, True, Step.NOTHING),
        (KEPT, FULL_BYTES, False, False, Step.NOTHING),
        (KEPT, ENOUGH_BYTES - 1, True, True, Step.GIVE_UP),
        (KEPT, ENOUGH_BYTES, True, False, Step.NOTHING),
        (KEPT, FULL_BYTES - 1, False, True, Step.GIVE_UP),
        (KEPT, AMPLE_BYTES, False, False, Step.NOTHING),
        (GIVEN_UP, AGAIN - 1, False, True, Step.NOTHING),
        (GIVEN_UP, AGAIN, True, False, Step.MAKE),
    ],
)
def test_a_reserve_is_given_up_only_for_a_member_that_is_down(
    *,
    reserve_bytes: int | None,
    free_bytes: int,
    was_full: bool,
    is_member_down: bool,
    is_full: bool,
    step: Step,
) -> None:
    if step is Step.GIVE_UP and not is_member_down:
        step = Step.NOTHING
    room = Room(free_bytes=free_bytes, reserve_bytes=reserve_bytes)
    assert decide(room, was_full=was_full, is_member_down=is_member_down) == (is_full, step)


@dataclass
class Disk:
    """A partition of which only the room matters."""

    total_bytes: int = 2 * AMPLE_BYTES
    used_bytes: int = 0
    reserve_bytes: int | None = None
    is_open: bool = True
    is_ours: bool = True
    offers: Sequence[StorageSecurity] = ()

    async def make(self, security: StorageSecurity, key: DiskKey | None) -> None:
        raise NotImplementedError

    async def open(self, security: StorageSecurity, key: DiskKey | None) -> None:
        raise NotImplementedError

    async def wipe(self) -> None:
        raise NotImplementedError

    async def grow(self) -> str:
        return ""

    async def room(self) -> Room | None:
        if not self.is_open:
            return None
        free_bytes = self.total_bytes - self.used_bytes - (self.reserve_bytes or 0)
        return Room(free_bytes=max(0, free_bytes), reserve_bytes=self.reserve_bytes)

    async def set_reserve(self, size_bytes: int) -> None:
        self.reserve_bytes = size_bytes


class Bench:
    """A disk that is looked after, and a consensus member that is up or down."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.has_member = True
        self.is_full: Value[bool] = Value(False)
        self.log = LogTree(clock=SimClock())

    async def pass_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds + LOOK_S / 2)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def life() -> None:
            supervisor = Supervisor(
                lambda ctx: keep_room(
                    ctx,
                    partition=self.disk,
                    has_member=lambda: self.has_member,
                    is_full=self.is_full,
                ),
                log_tree=self.log,
                clock=SimClock(),
                rng=Random(1),
            )
            running = asyncio.create_task(supervisor.run())
            await scenario()
            running.cancel()
            await asyncio.wait([running])

        simulate(life, seed=1)


def test_a_full_disk_gives_its_reserve_to_a_member_that_ended_and_takes_it_back() -> None:
    bench = Bench()
    disk = bench.disk

    async def scenario() -> None:
        await bench.pass_s(LOOK_S)
        assert disk.reserve_bytes == RESERVE_BYTES
        disk.used_bytes = disk.total_bytes - RESERVE_BYTES
        await bench.pass_s(2 * DOWN_S)
        assert bench.is_full.current
        assert disk.reserve_bytes == RESERVE_BYTES, "the member does its work"
        bench.has_member = False
        await bench.pass_s(DOWN_S)
        assert disk.reserve_bytes == 0
        bench.has_member = True
        await bench.pass_s(LOOK_S)
        assert bench.is_full.current
        disk.used_bytes = 0
        await bench.pass_s(LOOK_S)
        assert disk.reserve_bytes == RESERVE_BYTES
        assert not bench.is_full.current

    bench.run(scenario)


def test_nothing_is_said_of_a_disk_that_is_not_open_yet() -> None:
    bench = Bench()
    bench.disk.is_open, bench.has_member = False, False
    bench.disk.used_bytes, bench.disk.reserve_bytes = bench.disk.total_bytes, RESERVE_BYTES

    async def scenario() -> None:
        await bench.pass_s(10 * DOWN_S)
        assert not bench.is_full.current
        assert bench.disk.reserve_bytes == RESERVE_BYTES

    bench.run(scenario)
