# SPDX-License-Identifier: Apache-2.0
"""A majority is lost for ever, and one member goes on with what it has."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import pytest

from metropolis.base.errors import MetropolisError
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Compare, Membership, Put, Store, Target
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import dial_unix
from metropolis.sim import simulate

NAMES = ("one", "two", "three")


class Processes(Protocol):
    running: dict[str, subprocess.Popen[bytes]]

    def start(
        self, name: str, *, joins: str = "", founders: str = "", alone: bool = False
    ) -> str: ...

    def kill(self, name: str) -> None: ...


class World(Protocol):
    async def found(self) -> None: ...

    def store(self, name: str) -> Store: ...

    def membership(self, name: str) -> Membership: ...

    def kill(self, name: str) -> None: ...

    async def go_on_alone(self, name: str) -> None: ...

    async def close(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.ids: dict[str, int] = {}

    async def found(self) -> None:
        for name in NAMES:
            url = f"unix://{name}.peer:0"
            if not self.ids:
                self.ids[name] = self.cluster.bootstrap(name=name, peer_url=url)
                continue
            self.ids[name] = self.cluster.roster.add(url, is_learner=False).member_id
            self.cluster.start_member(self.ids[name], name=name)

    def store(self, name: str) -> Store:
        return MemoryStore(self.cluster, self.ids[name])

    def membership(self, name: str) -> Membership:
        return MemoryMembership(self.cluster, self.ids[name])

    def kill(self, name: str) -> None:
        self.cluster.stop_member(self.ids[name])

    async def go_on_alone(self, name: str) -> None:
        self.cluster.stop_member(self.ids[name])
        self.cluster.force_new(self.ids[name])
        self.cluster.start_member(self.ids[name], name=name)

    async def close(self) -> None:
        pass


class EtcdWorld:
    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.channels: dict[str, Channel] = {}

    async def found(self) -> None:
        founders = ",".join(f"{name}=unix://{name}.peer:0" for name in NAMES)
        for name in NAMES:
            self.channels[name] = dial_unix(self.processes.start(name, founders=founders))

    def store(self, name: str) -> Store:
        return EtcdStore(self.channels[name])

    def membership(self, name: str) -> Membership:
        return EtcdMembership(self.channels[name])

    def kill(self, name: str) -> None:
        self.processes.kill(name)

    async def go_on_alone(self, name: str) -> None:
        self.processes.kill(name)
        self.processes.start(name, alone=True)

    async def close(self) -> None:
        for channel in self.channels.values():
            await channel.close()


Scenario = Callable[[World], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["memory", "etcd"])
def play(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a scenario in one of the two worlds."""

    async def scene(world: World, scenario: Scenario) -> None:
        try:
            async with asyncio.timeout(60):
                await world.found()
                await scenario(world)
        finally:
            await world.close()

    if request.param == "memory":
        yield lambda scenario: simulate(lambda: scene(MemoryWorld(), scenario), seed=1)
    else:
        processes = request.getfixturevalue("etcd_processes")
        yield lambda scenario: asyncio.run(scene(EtcdWorld(processes), scenario))


PlayEtcd = Callable[[Callable[[EtcdWorld, Processes], Awaitable[None]]], None]


@pytest.fixture
def play_etcd(etcd_processes: Processes) -> PlayEtcd:
    """Runs a scenario with real members, whose processes can be seen."""

    def run(scenario: Callable[[EtcdWorld, Processes], Awaitable[None]]) -> None:
        async def scene() -> None:
            world = EtcdWorld(etcd_processes)
            try:
                async with asyncio.timeout(45):
                    await world.found()
                    await scenario(world, etcd_processes)
            finally:
                await world.close()

        asyncio.run(scene())

    return run


async def patiently_put(store: Store, key: bytes, value: bytes) -> int:
    while True:
        try:
            return (await store.transact([], [Put(key, value)])).revision
        except MetropolisError:
            await asyncio.sleep(0.1)


async def wait_local(store: Store, key: bytes, value: bytes) -> None:
    while True:  # nothing tells when a follower has it
        found = await store.get_local(key)
        if found is not None and found.value == value:
            return
        await asyncio.sleep(0.05)


def test_the_last_member_shows_what_it_has_and_goes_on_with_it(play: Run) -> None:
    async def scenario(world: World) -> None:
        revision = await patiently_put(world.store("one"), b"k", b"before")
        await wait_local(world.store("three"), b"k", b"before")
        world.kill("one")
        world.kill("two")
        last = world.store("three")
        with pytest.raises(MetropolisError):
            await last.get(b"k")
        found = await last.get_local(b"k")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"before", revision)
        await world.go_on_alone("three")
        assert await patiently_put(last, b"after", b"1") > revision
        kept = await last.get(b"k")
        assert kept is not None
        assert kept.value == b"before"
        unchanged = Compare(b"k", Target.MOD_REVISION, revision)
        assert (await last.transact([unchanged], [Put(b"k", b"after")])).succeeded
        (member,) = await world.membership("three").members()
        assert member.name == "three"
        assert not member.is_learner
        added = await world.membership("three").add_learner("unix://four.peer:0")
        assert added.is_learner

    play(scenario)


def test_a_lease_of_before_still_ends(play: Run) -> None:
    async def scenario(world: World) -> None:
        await patiently_put(world.store("one"), b"k", b"v")
        lease = await world.store("one").grant_lease(2)
        await world.store("one").transact([], [Put(b"leased", b"v", lease)])
        await wait_local(world.store("three"), b"leased", b"v")
        world.kill("one")
        world.kill("two")
        await world.go_on_alone("three")
        last = world.store("three")
        await patiently_put(last, b"k", b"again")
        while (found := await last.get(b"leased")) is not None:
            assert found.lease_id == lease
            await asyncio.sleep(0.1)

    play(scenario)


def test_lost_members_that_come_back_stop_by_themselves(play_etcd: PlayEtcd) -> None:
    async def scenario(world: EtcdWorld, processes: Processes) -> None:
        await patiently_put(world.store("one"), b"k", b"v")
        await wait_local(world.store("three"), b"k", b"v")
        world.kill("one")
        world.kill("two")
        await world.go_on_alone("three")
        await patiently_put(world.store("three"), b"k", b"after")
        for name in ("one", "two"):
            processes.start(name)
        for name in ("one", "two"):
            while processes.running[name].poll() is None:  # noqa: ASYNC110  # a process
                await asyncio.sleep(0.05)
        assert (await world.store("three").get(b"k")) is not None

    play_etcd(scenario)


def test_the_twin_forgets_what_the_last_member_had_not_heard_of() -> None:
    async def main() -> None:
        world = MemoryWorld()
        await world.found()
        one, three = world.store("one"), world.store("three")
        await patiently_put(one, b"k", b"old")
        await patiently_put(one, b"gone", b"old")
        world.cluster.isolate(world.ids["three"])
        await patiently_put(one, b"k", b"new")
        await one.transact([], [Put(b"unheard", b"new")])
        world.kill("one")
        world.kill("two")
        found = await three.get_local(b"k")
        assert found is not None
        assert found.value == b"old"
        assert await three.get_local(b"unheard") is None
        await world.go_on_alone("three")
        await patiently_put(three, b"after", b"1")
        kept = await three.get(b"k")
        assert kept is not None
        assert kept.value == b"old"
        assert await three.get(b"unheard") is None

    simulate(main, seed=1)
