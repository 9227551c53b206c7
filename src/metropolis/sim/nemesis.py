# SPDX-License-Identifier: Apache-2.0
"""Breaks a world, as its seed wants it, and repairs it again.

Every fault is a coroutine that breaks something, waits, and repairs what it broke. Several may
overlap, and one may end early what another began. After `rest` everything works again, and what
the world promises must come true.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, final

from metropolis.host.sim.disk import CAPACITY_BYTES
from metropolis.rpc.memory.network import LATENCY_S
from metropolis.sim.loop import note
from metropolis.sim.world import Machine, World

PAUSE_S: Final = (0.5, 20.0)  # between the beginnings of two faults
HURRIED_S: Final = (0.05, 4.0)  # enrolments take seconds: some seeds do not leave them in peace
WRITE_AWAITED_S: Final = 30.0
DAY_S: Final = 86_400.0
FAULTS_AT_ONCE_MAX: Final = 4
HELD_AGAIN_S: Final = 0.2

Fault = Callable[[], Awaitable[None]]


@final
class Nemesis:
    """The faults of one world.

    Args:
        only: Names of the faults to use; all of them by default.
        pause_s: Between the beginnings of two faults, shortest and longest.
    """

    def __init__(
        self,
        world: World,
        *,
        only: Sequence[str] = (),
        pause_s: tuple[float, float] = PAUSE_S,
    ) -> None:
        self._world = world
        self._rng = world.fork_rng()
        self._pause_s = pause_s
        self._busy: dict[str, None] = {}  # machines in the hands of a fault
        faults: dict[str, Fault] = {
            "crash": self._crash,
            "kill": self._kill,
            "crash in a write": self._crash_in_a_write,
            "power cut": self._power_cut,
            "pause": self._pause,
            "split": self._split,
            "cut": self._cut,
            "latency": self._latency,
            "loss": self._loss,
            "resets": self._resets,
            "no store leader": self._no_store_leader,
            "leases expire": self._leases_expire,
            "lost replies": self._lost_replies,
            "slow store": self._slow_store,
            "clock step": self._clock_step,
            "clock drift": self._clock_drift,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
        }
        assert not set(only) - set(faults), f"unknown faults among {only}"
        self._faults = {name: faults[name] for name in faults if not only or name in only}
        self.happened: dict[str, int] = dict.fromkeys(self._faults, 0)

    async def run(self, duration_s: float) -> None:
        """Break things for a while, then repair everything."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + duration_s
        limit = asyncio.Semaphore(FAULTS_AT_ONCE_MAX)
        async with asyncio.TaskGroup() as tasks:
            while (pause_s := self._rng.uniform(*self._pause_s)) < end_s - loop.time():
                await asyncio.sleep(pause_s)
                name = self._rng.choice([*self._faults])
                tasks.create_task(self._one(name, limit), name=f"fault {name}")
        await self.rest()

    async def rest(self) -> None:
        """Repair everything and switch everything on."""
        note("the faults stop")
        world = self._world
        world.network.heal()
        world.network.set_latency(*LATENCY_S)
        world.network.set_loss(0.0)
        world.network.set_resets(0.0)
        world.consensus.troubles.end()
        for machine in world.machines:
            machine.host.disk.latency_s = (0.0, 0.0)
            machine.host.disk.capacity_bytes = CAPACITY_BYTES
            machine.host.clock.set_drift(0.0)
            for member_id in world.consensus.members_on(machine.address):
                world.consensus.slow_disk(member_id, 0.0)
            if not machine.is_on and machine.name not in self._busy:
                machine.boot()

    @asynccontextmanager
    async def holding(self, machine: Machine) -> AsyncGenerator[None, None]:
        """Keep the power of a machine out of the faults' hands while somebody works on it."""
        while machine.name in self._busy or not machine.is_on:  # noqa: ASYNC110  # of a world
            await asyncio.sleep(HELD_AGAIN_S)
        self._busy[machine.name] = None
        try:
            yield
        finally:
            self._busy.pop(machine.name, None)

    async def _one(self, name: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            note(f"fault: {name}")
            self.happened[name] += 1
            await self._faults[name]()

    async def _wait(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(low_s, high_s))

    def _machine(self, *, is_free: bool = False) -> Machine | None:
        """Choose a machine; a free one is on and in nobody's hands."""
        machines = [
            machine
            for machine in self._world.machines
            if not is_free or (machine.is_on and machine.name not in self._busy)
        ]
        return self._rng.choice(machines) if machines else None

    # Machines

    async def _restart(self, machine: Machine, end: Fault, *, off_s: tuple[float, float]) -> None:
        self._busy[machine.name] = None
        try:
            await end()
            await self._wait(*off_s)
        finally:
            self._busy.pop(machine.name, None)
            machine.boot()

    async def _crash(self) -> None:
        if (machine := self._machine(is_free=True)) is not None:
            await self._restart(machine, machine.crash, off_s=(1, 60))

    async def _kill(self) -> None:
        if (machine := self._machine(is_free=True)) is not None:
            await self._restart(machine, machine.kill, off_s=(0.1, 2))

    async def _crash_in_a_write(self) -> None:
        """Cut the power while the machine writes one of its next files."""
        if (machine := self._machine(is_free=True)) is None:
            return
        left = self._rng.randint(1, 4)
        reached = asyncio.Event()

        def count() -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                reached.set()

        disk = machine.host.disk
        disk.latency_s = (0.01, 0.1)
        disk.on_change = count
        self._busy[machine.name] = None
        try:
            async with asyncio.timeout(WRITE_AWAITED_S):
                await reached.wait()
                note(f"{machine.name} is writing")
            await self._restart(machine, machine.crash, off_s=(0.1, 5))
        except TimeoutError:
            pass  # an idle node writes nothing
        finally:
            self._busy.pop(machine.name, None)
            disk.on_change = None
            disk.latency_s = (0.0, 0.0)

    async def _power_cut(self) -> None:
        """Everything at once."""
        async with asyncio.TaskGroup() as tasks:
            for machine in self._world.machines:
                if machine.is_on and machine.name not in self._busy:
                    tasks.create_task(self._restart(machine, machine.crash, off_s=(1, 20)))

    async def _pause(self) -> None:
        """Stop a machine's processes and let them go on: it may believe that it still leads."""
        if (machine := self._machine(is_free=True)) is not None:
            self._busy[machine.name] = None
            try:
                machine.pause()
                await self._wait(1, 40)
            finally:
                machine.resume()
                self._busy.pop(machine.name, None)

    # Network

    async def _split(self) -> None:
        addresses = [machine.address for machine in self._world.machines]
        self._rng.shuffle(addresses)
        size = self._rng.randint(1, max(1, len(addresses) // 2))
        self._world.network.split(addresses[:size], addresses[size:])
        await self._wait(1, 60)
        self._world.network.heal()

    async def _cut(self) -> None:
        one, other = self._machine(), self._machine()
        if one is not None and other is not None and one is not other:
            self._world.network.cut(one.address, other.address)
            await self._wait(1, 60)
            self._world.network.heal()

    async def _latency(self) -> None:
        slow_s = self._rng.uniform(0.01, 0.4)
        self._world.network.set_latency(slow_s / 4, slow_s)
        await self._wait(5, 60)
        self._world.network.set_latency(*LATENCY_S)

    async def _loss(self) -> None:
        self._world.network.set_loss(self._rng.uniform(0.01, 0.3))
        await self._wait(5, 60)
        self._world.network.set_loss(0.0)

    async def _resets(self) -> None:
        self._world.network.set_resets(self._rng.uniform(0.001, 0.1))
        await self._wait(5, 60)
        self._world.network.set_resets(0.0)

    # Store

    async def _no_store_leader(self) -> None:
        self._world.consensus.cluster.lose_leader(for_s=self._rng.uniform(0.5, 8))

    async def _leases_expire(self) -> None:
        """Every lease ends at once, as after a long pause of the leader's machine."""
        cluster = self._world.consensus.cluster
        for lease_id in cluster.lease_ids:
            cluster.end_lease(lease_id)
        cluster.commit()

    async def _lost_replies(self) -> None:
        troubles = self._world.consensus.troubles
        troubles.lost_replies = self._rng.uniform(0.02, 0.3)
        await self._wait(1, 30)
        troubles.lost_replies = 0.0

    async def _slow_store(self) -> None:
        """One member answers and hears late, so that its node lives in the past."""
        cluster, troubles = self._world.consensus.cluster, self._world.consensus.troubles
        members = [state.member_id for state in cluster.roster]
        if members:
            member_id = self._rng.choice(members)
            troubles.slow_calls_s[member_id] = self._rng.uniform(0.1, 4)
            troubles.slow_replication_s[member_id] = self._rng.uniform(0.1, 4)
            await self._wait(1, 30)
            troubles.slow_calls_s.pop(member_id, None)
            troubles.slow_replication_s.pop(member_id, None)

    # Clocks and disks

    async def _clock_step(self) -> None:
        if (machine := self._machine()) is not None:
            days = self._rng.choice([1 / 86_400, 1 / 24, 1, 400, 3650])
            step_s = self._rng.choice([-1, 1]) * days * DAY_S
            note(f"clock of {machine.name} steps by {step_s} s")
            machine.host.clock.step(step_s)

    async def _clock_drift(self) -> None:
        if (machine := self._machine()) is not None:
            machine.host.clock.set_drift(self._rng.uniform(-10_000, 10_000))
            await self._wait(10, 100)
            machine.host.clock.set_drift(0.0)

    async def _slow_disk(self) -> None:
        if (machine := self._machine()) is not None:
            slow_s = self._rng.uniform(0.05, 2)
            machine.host.disk.latency_s = (slow_s / 4, slow_s)
            members = self._world.consensus.members_on(machine.address)
            for member_id in members:
                self._world.consensus.slow_disk(member_id, slow_s)
            await self._wait(5, 60)
            machine.host.disk.latency_s = (0.0, 0.0)
            for member_id in members:
                self._world.consensus.slow_disk(member_id, 0.0)

    async def _full_disk(self) -> None:
        if (machine := self._machine()) is not None:
            disk = machine.host.disk
            disk.capacity_bytes = disk.used_bytes
            await self._wait(5, 60)
            disk.capacity_bytes = CAPACITY_BYTES
