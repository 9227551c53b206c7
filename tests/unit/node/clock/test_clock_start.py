# SPDX-License-Identifier: Apache-2.0
"""Where the clock starts, what is remembered of the time, and what chronyd is told."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.host.sim.processes import SimProcesses
from metropolis.node.clock.chrony import arguments, configuration
from metropolis.node.clock.runnable import TimeEdges, keeper
from metropolis.node.clock.start import (
    Source,
    choose_start,
    decode_saved,
    encode_saved,
    start_clock,
)
from metropolis.node.storage import CLOCK, NodeStorage
from metropolis.sim import simulate
from metropolis.supervision import Context, LogTree, Supervisor, Value

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TEN_YEARS = timedelta(days=3650)
BOOT = datetime(1970, 1, 1, tzinfo=UTC)


class WrongClock:
    """A hardware clock that says what the test wants, and a wall clock to set."""

    def __init__(self, clock: SimClock, hardware: datetime | None) -> None:
        self._clock = clock
        self.hardware = hardware
        self.is_right = False

    def hardware_time(self) -> datetime | None:
        return self.hardware

    def set_wall(self, moment: datetime) -> None:
        self._clock.set(moment)

    def is_synchronised(self) -> bool:
        return self.is_right


@pytest.mark.parametrize(
    ("hardware", "build", "saved", "expected"),
    [
        (NOW, NOW - TEN_YEARS, NOW - TEN_YEARS, Source.HARDWARE),
        (NOW - TEN_YEARS, NOW, None, Source.BUILD),
        (NOW - TEN_YEARS, NOW - TEN_YEARS, NOW, Source.SAVED),
        (None, NOW, None, Source.BUILD),
        (None, None, None, Source.HARDWARE),
        (datetime(2300, 1, 1, tzinfo=UTC), NOW, None, Source.BUILD),
    ],
    ids=["right", "behind, new image", "behind, saved", "none", "nothing known", "nonsense"],
)
def test_the_clock_starts_at_the_latest_time_that_is_known(
    hardware: datetime | None, build: datetime | None, saved: datetime | None, expected: Source
) -> None:
    start = choose_start(hardware=hardware, build=build, saved=saved, wall=BOOT)
    assert start.source is expected
    assert start.moment == (BOOT if expected is Source.HARDWARE and hardware is None else NOW)


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_saved_time_comes_back(moment: datetime) -> None:
    assert decode_saved(encode_saved(moment)) == moment.replace(microsecond=0)


@given(st.binary(max_size=64))
def test_a_damaged_saved_time_is_a_time_or_nothing(data: bytes) -> None:
    moment = decode_saved(data)
    assert moment is None or moment.tzinfo is not None


class Machine:
    """A machine whose clock is to be kept."""

    def __init__(self, hardware: datetime | None) -> None:
        self.clock = SimClock(epoch=BOOT)
        self.setting = WrongClock(self.clock, hardware)
        self.storage = NodeStorage(SimDirectory(SimDisk(Random(1)), mount_point="/"))
        self.log_tree = LogTree(clock=self.clock)

    async def start(self, build: datetime) -> Source:
        start = await start_clock(
            self.setting,
            self.storage,
            build_time_s=int(build.timestamp()),
            wall=self.clock.wall(),
            log=self.log_tree.leveled("machine.time"),
        )
        return start.source

    async def live(self, source: Source, *moments_s: float) -> None:
        """Keep the time; at the first of the moments it becomes right, at the last all ends."""
        edges = TimeEdges(
            clock=self.clock,
            setting=self.setting,
            storage=self.storage,
            run=SimDirectory(SimDisk(Random(2)), mount_point="/run"),
            processes=SimProcesses({}),
            network=Value(None),
            start=source,
        )

        async def root(ctx: Context) -> None:
            await keeper(ctx, edges=edges)

        supervisor = Supervisor(root, log_tree=self.log_tree, clock=self.clock, rng=Random(3))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            for number, wait_s in enumerate(moments_s):
                await asyncio.sleep(wait_s)
                if number == 0 and len(moments_s) > 1:
                    self.clock.set(NOW)  # chrony steps it
                    self.setting.is_right = True
            running.cancel()

    async def saved(self) -> datetime | None:
        data = await self.storage.read(CLOCK)
        return None if data is None else decode_saved(data)


def test_a_clock_ten_years_behind_starts_at_the_saved_time_the_next_time() -> None:
    async def scenario() -> None:
        machine = Machine(NOW - TEN_YEARS)
        source = await machine.start(NOW - TEN_YEARS / 2)
        assert source is Source.BUILD
        assert machine.clock.wall() == NOW - TEN_YEARS / 2
        await machine.live(source, 60, 60)
        saved = await machine.saved()
        assert saved is not None
        assert timedelta(seconds=50) < saved - NOW < timedelta(seconds=70)
        machine.clock.set(NOW - TEN_YEARS)  # the battery is empty
        assert await machine.start(NOW - TEN_YEARS / 2) is Source.SAVED
        assert machine.clock.wall() == saved

    simulate(scenario, seed=1)


def test_a_clock_ten_years_ahead_leaves_no_trace_once_the_network_has_put_it_right() -> None:
    async def scenario() -> None:
        machine = Machine(NOW + TEN_YEARS)
        source = await machine.start(NOW - TEN_YEARS)
        assert source is Source.HARDWARE
        assert machine.clock.wall() == NOW + TEN_YEARS
        await machine.live(source, 7200)  # no time server: nothing is remembered of this
        assert await machine.saved() is None
        await machine.live(source, 60, 60)
        saved = await machine.saved()
        assert saved is not None
        assert saved < NOW + timedelta(minutes=2)
        machine.setting.hardware = NOW  # the kernel has written it back
        machine.clock.set(BOOT)
        await machine.start(NOW - TEN_YEARS)
        assert machine.clock.wall() == saved

    simulate(scenario, seed=1)


def test_a_machine_without_hardware_clock_and_time_server_never_goes_back() -> None:
    async def scenario() -> None:
        machine = Machine(None)
        reached = NOW
        for _ in range(3):
            machine.clock.set(BOOT)
            source = await machine.start(NOW)
            assert machine.clock.wall() >= reached
            await machine.live(source, 5000)
            reached = machine.clock.wall() - timedelta(seconds=5)

    simulate(scenario, seed=1)


def test_a_damaged_file_does_not_keep_the_clock_from_starting() -> None:
    async def scenario() -> None:
        machine = Machine(NOW)
        for data in (b"\xff\xfe", b"9999-12-31T23:59:59+00:00", bytes(1000)):
            await machine.storage.directory.write(CLOCK.path, data)
            machine.clock.set(BOOT)
            assert await machine.start(NOW - TEN_YEARS) is Source.HARDWARE
            assert machine.clock.wall() == NOW

    simulate(scenario, seed=1)


def test_the_servers_of_the_network_go_before_the_pool() -> None:
    text = configuration(
        servers=["192.0.2.123", "2001:db8::123"], pools=["pool.example"], pid_path="/run/pid"
    )
    assert "server 192.0.2.123 iburst\nserver 2001:db8::123 iburst\n" in text
    assert "pool" not in text
    text = configuration(servers=[], pools=["pool.example"], pid_path="/run/pid")
    assert "\npool pool.example iburst maxsources 4\n" in text
    for line in ("port 0", "cmdport 0", "bindcmdaddress /", "makestep 2.0 3", "pidfile /run/pid"):
        assert f"\n{line}\n" in text


def test_what_is_no_address_is_no_time_server() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        configuration(servers=["192.0.2.1\nallow all"], pools=[], pid_path="/run/pid")


def test_chronyd_gives_up_its_rights() -> None:
    argv = arguments("/usr/sbin/chronyd", path="/run/c", user="_chrony", sets_clock=True)
    assert list(argv) == ["/usr/sbin/chronyd", "-d", "-F", "1", "-u", "_chrony", "-f", "/run/c"]
