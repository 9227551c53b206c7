# SPDX-License-Identifier: Apache-2.0
"""A partition of simulated machines, its control plane, and whoever uses and breaks them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any, cast

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from metropolis.base.errors import UnavailableError
from metropolis.host.sim.clock import EPOCH, SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.messages.subscribing import Subscribing
from metropolis.metal.model.event import EVENTS, Event, EventContainer
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.rules.explanation import ALLOCATABLE, IN_USE, explain
from metropolis.metal.seed import LARGE, PARTITION, RACKS, SHOP, SHOP_NETWORK, seed
from metropolis.metal.services.leaks import find_leaks
from metropolis.metal.services.liveliness import run_liveliness, run_resurrection
from metropolis.metal.settings import Settings
from metropolis.metal.simulated.agent import BmcAgent
from metropolis.metal.simulated.blueprint import blueprint
from metropolis.metal.simulated.machine import Assignment, Character, SimulatedMachine
from metropolis.metal.site import Site
from metropolis.metal.store import Reader, Stored
from metropolis.metal.store.sqlite import MEMORY, open_sqlite
from sim.metal.replicas import Boundaries, SimChannel, SimReplica, answer_of
from unit.metal.http.client import Client

IMAGE = "ubuntu-24.04"
IMAGES = ("ubuntu-24.04.20260915", "ubuntu-24.04.20261110")
SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA somebody"
)


class World:
    """Everything, by one seed.

    Attributes:
        owners: By machine, the allocation that it has, as every commit showed it.
    """

    def __init__(
        self, chance: Random, stores: list[Boundaries], replicas: list[SimReplica]
    ) -> None:
        self.chance = chance
        self.stores = stores
        self.replicas = replicas
        self.owners: dict[str, str] = {}
        self.machines: list[SimulatedMachine] = []
        self.channels: list[SimChannel] = []
        self._salts = iter(f"salt-{number:019}" for number in range(10**6))
        self._remembered: int | None = None

    @property
    def store(self) -> Boundaries:
        return self.stores[0]

    def add_machines(self, count: int, character: Character) -> None:
        racks = [(leaves[0], leaves[1]) for leaves in RACKS.values()]
        for number in range(count):
            channel = SimChannel(self.replicas, Random(self.chance.random()))
            self.channels.append(channel)
            self.machines.append(
                SimulatedMachine(
                    blueprint(number, partition_id=PARTITION, racks=racks),
                    channel,
                    read_assignment=self.read_assignment,
                    jitter=Random(self.chance.random()),
                    character=character,
                )
            )

    async def read_assignment(self, machine_id: str) -> Assignment | None:
        if not any(each.is_up for each in self.replicas):
            raise UnavailableError("nobody is up", remedy="Try again.")
        found = await self.store.read(lambda reader: reader.get(MACHINES, machine_id))
        allocation = found.value.allocation
        return None if allocation is None else Assignment(reinstall=allocation.reinstall)

    async def run_agent(self) -> None:
        """The BMC agent; what it has done it remembers on its disk, through any crash."""
        agent = BmcAgent(self.machines)
        channel = SimChannel(
            self.replicas, Random(self.chance.random()), certificate=agent_certificate()
        )
        self.channels.append(channel)

        def remember(sequence: int) -> None:
            self._remembered = sequence

        while True:
            subscribing = Subscribing(channel, agent, done=self._remembered, remember=remember)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(200, 4000)):
                    await subscribing.run()
            assert agent.refused == 0, "a BMC was not told its password"

    async def call(
        self, method: str, path: str, body: Any = None, *, crash_at: int | None = None
    ) -> Any:
        """Call a replica; None where no answer came. With `crash_at` the call ends there."""
        up = [each for each in self.replicas if each.is_up]
        if not up:
            return None
        replica = self.chance.choice(up)
        client = Client(
            application=replica.application,
            site=replica.site,
            clock=cast("Any", replica.site.clock),
            salts=[next(self._salts)],
        )
        task = replica.start(lambda: client.call(method, path, body))
        if crash_at is not None:
            replica.store.left, replica.store.victim = crash_at, task
        try:
            return await answer_of(task, 60.0)
        except UnavailableError:
            return None
        finally:
            replica.store.left = replica.store.victim = None

    async def check_owners(self) -> None:
        """After every commit: no machine goes from one owner to another without being free."""
        for each in await self.store._store.read(lambda reader: reader.find(MACHINES)):
            held = each.value.allocation
            now, before = "" if held is None else held.uuid, self.owners.get(each.id, "")
            assert not (now and before and now != before), f"{each.id} has two owners"
            self.owners[each.id] = now

    async def check_books(self) -> None:
        found = await self.store.read(find_leaks)
        assert not found, found

    async def all(self) -> list[tuple[Machine, EventContainer | None]]:
        """The simulated machines that are known, with their events."""

        async def view(reader: Reader) -> list[tuple[Machine, EventContainer | None]]:
            found: list[tuple[Machine, EventContainer | None]] = []
            for machine in self.machines:
                stored: Stored[Machine] | None = await reader.lookup(MACHINES, machine.machine_id)
                if stored is not None:
                    events = await reader.lookup(EVENTS, stored.id)
                    found.append((stored.value, None if events is None else events.value))
            return found

        return await self.store.read(view)

    async def check_reasons(self) -> None:
        """Whoever is neither allocatable nor in use has a reason, and something can be done."""
        for machine, events in await self.all():
            told = explain(machine, events, reachable=True)
            if told.verdict not in {ALLOCATABLE, IN_USE}:
                assert told.obstacles, machine
                assert all(each.reason and each.remedy for each in told.obstacles)

    async def unsettled(self) -> list[str]:
        """Who is not yet where it should be, and why."""
        return [
            f"{machine.id}: {explain(machine, events, reachable=True)}"
            for machine, events in await self.all()
            if not _is_settled(machine, events)
        ]


def _is_settled(machine: Machine, events: EventContainer | None) -> bool:
    if events is None or events.liveliness != "Alive":
        return False
    if machine.allocation is None:
        return machine.waiting and events.newest is Event.WAITING
    return machine.allocation.succeeded and events.newest is Event.PHONED_HOME


@cache
def agent_certificate() -> bytes:
    """What the partition's BMC agent shows; whether to trust it TLS would have decided."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "bmc-agent"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, PARTITION),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.not_valid_before(EPOCH).not_valid_after(EPOCH + timedelta(days=1))
    signed = builder.public_key(key.public_key()).serial_number(1).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def allocation_request(number: int) -> dict[str, Any]:
    return {
        "projectid": SHOP,
        "partitionid": PARTITION,
        "sizeid": LARGE,
        "imageid": IMAGE,
        "networks": [{"networkid": SHOP_NETWORK, "autoacquire": True}],
        "ssh_pub_keys": [SSH_KEY],
        "name": f"m{number}",
        "hostname": f"m{number}",
    }


async def live(
    seed_number: int, scenario: Callable[[World], Awaitable[None]], *, machines: int = 4
) -> None:
    """Run a scenario in a world of a seed, with everything else going on beside it."""
    chance = Random(seed_number)
    clock = SimClock()
    store = await open_sqlite(MEMORY, clock=clock)
    stores = [Boundaries(store) for _ in range(2)]
    sites = [
        Site(
            store=each,
            clock=clock,
            entropy=SimEntropy(seed_number * 10 + number),
            settings=Settings(check_urls=False),
        )
        for number, each in enumerate(stores)
    ]
    await seed(sites[0])
    replicas = [SimReplica(site, each) for site, each in zip(sites, stores, strict=True)]
    world = World(chance, stores, replicas)
    for each in stores:
        each.after_write = world.check_owners
    character = Character(step_s=5.0, installation_fails=0.15, crashes=0.1, aborts=0.3)
    world.add_machines(machines, character)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run([run_liveliness])) for each in replicas]
        tasks.append(group.create_task(run_resurrection(sites[0])))
        tasks += [group.create_task(each.run()) for each in world.machines]
        tasks.append(group.create_task(world.run_agent()))
        await scenario(world)
        for task in tasks:
            task.cancel()
    await store.close()


def decode(answer: Any) -> Any:
    return msgspec.json.decode(answer.body)
