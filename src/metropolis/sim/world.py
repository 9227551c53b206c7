# SPDX-License-Identifier: Apache-2.0
"""Machines on a network with a consensus, all in one loop; every machine runs a node program.

    World
    ├── network      MemoryNetwork: splits, loss, latency, resets
    ├── consensus    SimConsensus: one model of the store, a member per machine that runs one
    ├── machines     Machine: a SimHost with a power switch, its program's supervision tree
    └── invariants   checked after every step of the loop

What a machine runs is an argument, so that parts of a node can be put into a world, too.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Final, final

from metropolis.host import Host
from metropolis.host.sim.machine import SimHost
from metropolis.node.roles.edges import MemberFactory
from metropolis.node.sealing.keeper import Keeper, MemoryKeeper
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.transport import Transport
from metropolis.sim.consensus import SimConsensus
from metropolis.sim.invariants import Invariants, acknowledged_store_stays
from metropolis.sim.logs import LINES_KEPT_MAX, follow_log
from metropolis.sim.loop import OWNER, note, running_loop
from metropolis.sim.waiting import describe_tasks
from metropolis.supervision import LogReader, LogTree, ReadOptions, Severity, Supervisor

MACHINES_MAX: Final = 64
CANCELLATIONS_MAX: Final = 20
CANCELLATION_PAUSE_S: Final = 0.01
OPERATOR_ADDRESS: Final = "10.0.255.1"
_SEED_BITS: Final = 64
_TPM_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What one start of a machine hands to its program.

    Attributes:
        name: Of the machine; its host may be named otherwise.
        member: Makes the consensus member that the program may want to run.
        print_line: The console.
        tpm: What the machine's TPM keeps; None: it has none.
    """

    name: str
    host: Host
    transport: Transport
    member: MemberFactory
    log_tree: LogTree
    print_line: Callable[[str], None]
    tpm: Keeper | None


NodeProgram = Callable[[Boot], Supervisor]


@final
class Machine:
    """One machine of a world.

    Attributes:
        host: Disk, clock and addresses; what a power cut leaves.
        tpm: Every other machine has none, by the seed.
        supervisor: Of the present boot; None while the machine is off.
        log: The last leveled log lines, of all boots.
    """

    def __init__(self, world: "World", name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.host = SimHost(name, rng=world.fork_rng(), addresses=[address])
        seeds = world.fork_rng()
        secret = seeds.randbytes(_TPM_SECRET_BYTES)
        self.tpm = MemoryKeeper(secret) if seeds.random() < 1 / 2 else None
        self.supervisor: Supervisor | None = None
        self.log: deque[str] = deque(maxlen=LINES_KEPT_MAX)
        self._world = world
        self._boot_id = b""
        self._life: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._reader: LogReader | None = None

    @property
    def is_on(self) -> bool:
        """Whether it runs its program."""
        return self._life is not None

    def boot(self) -> None:
        """Switch the machine on and start its program."""
        assert self._life is None, f"{self.name} is on"
        note(f"{self.name} boots")
        world = self._world
        world.network.power_on(self.address)
        host = self.host.boot()
        if self.tpm is not None:
            self.tpm.start()
        log_tree = LogTree(clock=host.clock)
        self._follow(log_tree)
        self.supervisor = world.program(
            Boot(
                name=self.name,
                host=host,
                transport=MemoryTransport(world.network, self.address),
                member=world.consensus.member_factory(host),
                log_tree=log_tree,
                print_line=_print_nothing,
                tpm=self.tpm,
            )
        )
        context = copy_context()
        context.run(OWNER.set, host.boot_id)
        self._boot_id = host.boot_id
        self._life = asyncio.get_running_loop().create_task(
            self.supervisor.run(), name=f"machine {self.name}", context=context
        )

    def pause(self) -> None:
        """Stop every process as with SIGSTOP, the consensus member too. What is sent to it waits.

        Splits the network: others must not heal it meanwhile.
        """
        loop = running_loop()
        assert loop is not None, "machines live in simulations"
        note(f"{self.name} is stopped")
        others = [each.address for each in self._world.machines if each is not self]
        self._world.network.split([self.address], [*others, OPERATOR_ADDRESS])  # answers no pings
        loop.hold(self._boot_id)

    def resume(self) -> None:
        """Let a paused machine go on, with everything that it missed at once."""
        loop = running_loop()
        assert loop is not None, "machines live in simulations"
        note(f"{self.name} goes on")
        self._world.network.heal()
        loop.release(self._boot_id)

    async def crash(self) -> None:
        """Cut the power. Others notice by its silence. Returns once its code has ended."""
        await self._end("loses its power", is_silent=True)

    async def kill(self) -> None:
        """Kill the program as with SIGKILL: its connections are reset at once."""
        await self._end("is killed", is_silent=False)

    async def stop(self) -> None:
        """End the program in order, then switch off."""
        if self._life is None:
            return
        note(f"{self.name} stops")
        life, self._life = self._life, None
        life.cancel()
        await asyncio.wait([life])
        await self._bury()
        self._off()
        await self._unfollow()

    async def _end(self, how: str, *, is_silent: bool) -> None:
        if self._life is None:
            return
        note(f"{self.name} {how}")
        if (loop := running_loop()) is not None:
            loop.release(self._boot_id)  # nobody can end what does not run
        life, self._life = self._life, None
        if not is_silent:
            self._world.network.reset_connections(self.address)
        self._off()  # first, so that cleaning up changes nothing that survives
        life.cancel()
        await asyncio.wait([life])
        await self._bury()
        await self._unfollow()

    async def _bury(self) -> None:
        """End what outlives its boot, so that it cannot haunt the next one, and report it."""
        loop = running_loop()
        assert loop is not None, "machines live in simulations"
        leftovers = [task for task in loop.pending() if task.owner == self._boot_id]
        if not leftovers:
            return
        text = f"{self.name} cannot end its program:\n{describe_tasks(leftovers)}"
        self._world.bugs.append(AssertionError(text))
        for _ in range(CANCELLATIONS_MAX):
            for task in leftovers:
                task.cancel()
            await asyncio.sleep(CANCELLATION_PAUSE_S)
            leftovers = [task for task in leftovers if not task.done()]

    def _follow(self, log_tree: LogTree) -> None:
        options = ReadOptions(
            with_children=True, backlog=None, stream=True, minimum_severity=Severity.INFO
        )
        self._reader = log_tree.read("", options)
        self._follower = asyncio.get_running_loop().create_task(
            follow_log(self.name, self._reader, kept=self.log, report_bug=self._world.bugs.append),
            name=f"log of {self.name}",
        )

    async def _unfollow(self) -> None:
        assert self._reader is not None, "every boot has a follower"
        assert self._follower is not None, "every boot has a follower"
        self._reader.close()
        await asyncio.wait([self._follower])

    def _off(self) -> None:
        self.supervisor = None
        self._world.network.power_off(self.address)
        self._world.consensus.power_off(self.address)
        self.host.crash()


def _print_nothing(_line: str) -> None:
    """The log is followed as it is; the console would only repeat it."""


@final
class World:
    """See the module's docstring. Made by `make_world`.

    Attributes:
        rng: For whoever drives the world; parts of the world have their own.
    """

    def __init__(self, *, seed: int, machine_count: int, program: NodeProgram) -> None:
        assert 0 < machine_count <= MACHINES_MAX
        self.seed = seed
        self.program = program
        self._seeds = Random(seed)
        self.rng = self.fork_rng()
        self.bugs: list[BaseException] = []
        self.network = MemoryNetwork(self.fork_rng(), note=note, report_bug=self.bugs.append)
        self.consensus = SimConsensus(self.network, self.fork_rng())
        self.invariants = Invariants(self.consensus, replay=f"metropolis sim --seed {seed}")
        self.invariants.add(
            "no acknowledged write is lost", acknowledged_store_stays(self.consensus)
        )
        self.invariants.add("nothing fails but with operating errors", self._first_bug)
        self.machines: Sequence[Machine] = [
            Machine(self, f"m{number}", f"10.0.0.{number}")
            for number in range(1, machine_count + 1)
        ]

    def fork_rng(self) -> Random:
        """Return a generator of its own for a part, so that parts do not disturb each other."""
        return Random(self._seeds.getrandbits(_SEED_BITS))

    def operator_transport(self, address: str = OPERATOR_ADDRESS) -> Transport:
        """Return the transport of somebody outside of the machines; splits do not concern it."""
        return MemoryTransport(self.network, address)

    async def shut_down(self) -> None:
        """End every program."""
        for machine in self.machines:
            await machine.crash()

    def _first_bug(self) -> str | None:
        return f"{type(self.bugs[0]).__name__}: {self.bugs[0]}" if self.bugs else None


@asynccontextmanager
async def make_world(
    *, seed: int, machine_count: int, program: NodeProgram
) -> AsyncGenerator[World, None]:
    """Build a world inside a running simulation; leaving it switches every machine off."""
    loop = running_loop()
    assert loop is not None, "a world needs `simulate`"
    world = World(seed=seed, machine_count=machine_count, program=program)
    loop.after_batch.append(world.invariants)
    try:
        yield world
    finally:
        if world.invariants in loop.after_batch:
            loop.after_batch.remove(world.invariants)
        await world.shut_down()
