# SPDX-License-Identifier: Apache-2.0
"""Several members: how they come and go, and what their clients see when a majority is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol, TypeVar

import pytest

from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnavailableError
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Member, Membership, Put, Store
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import dial_unix
from metropolis.sim import simulate

T = TypeVar("T")

TRIO = ("one", "three", "two")


class Processes(Protocol):
    def start(self, name: str, *, joins: str = "", founders: str = "") -> str: ...

    def kill(self, name: str) -> None: ...


class World(Protocol):
    """Members that can be started and killed, and their clients."""

    def store(self, name: str) -> Store: ...

    def membership(self, name: str) -> Membership: ...

    async def found(self, *names: str) -> None:
        """Start the first members, all of them voting."""
        ...

    async def add(self, name: str, *, via: str) -> int:
        """Add a learner, start it, return its id."""
        ...

    def kill(self, name: str) -> None: ...

    async def revive(self, name: str) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.ids: dict[str, int] = {}

    def store(self, name: str) -> Store:
        return MemoryStore(self.cluster, self.ids[name])

    def membership(self, name: str) -> Membership:
        return MemoryMembership(self.cluster, self.ids[name])

    async def found(self, *names: str) -> None:
        for name in names:
            url = f"unix://{name}.peer:0"
            if not self.ids:
                self.ids[name] = self.cluster.bootstrap(name=name, peer_url=url)
                continue
            self.ids[name] = self.cluster.roster.add(url, is_learner=False).member_id
            self.cluster.start_member(self.ids[name], name=name)

    async def add(self, name: str, *, via: str) -> int:
        added = await patient(lambda: self.membership(via).add_learner(f"unix://{name}.peer:0"))
        self.ids[name] = added.member_id
        self.cluster.start_member(added.member_id, name=name, catch_up_s=0.3)
        return added.member_id

    def kill(self, name: str) -> None:
        self.cluster.stop_member(self.ids[name])

    async def revive(self, name: str) -> None:
        self.cluster.start_member(self.ids[name], name=name)


class EtcdWorld:
    def __init__(self, processes: Processes, clients: AsyncExitStack) -> None:
        self.processes = processes
        self.clients = clients
        self.channels: dict[str, Channel] = {}

    def store(self, name: str) -> Store:
        return EtcdStore(self.channels[name])

    def membership(self, name: str) -> Membership:
        return EtcdMembership(self.channels[name])

    async def found(self, *names: str) -> None:
        for name in names:
            self._dial(name, self.processes.start(name, founders=_members(names)))
        for name in names:
            await patient(partial(self.store(name).get, b"/probe"))

    async def add(self, name: str, *, via: str) -> int:
        joins = _members(self.channels)
        added = await patient(lambda: self.membership(via).add_learner(f"unix://{name}.peer:0"))
        self._dial(name, self.processes.start(name, joins=joins))
        await patient(self.store(name).status)
        return added.member_id

    def kill(self, name: str) -> None:
        self.processes.kill(name)

    async def revive(self, name: str) -> None:
        self.processes.start(name, founders=_members(self.channels))

    def _dial(self, name: str, socket: str) -> None:
        self.channels[name] = channel = dial_unix(socket)
        self.clients.push_async_callback(channel.close)


Run = Callable[[Callable[[World], Awaitable[None]]], None]


def _members(names: Iterable[str]) -> str:
    return ",".join(f"{name}=unix://{name}.peer:0" for name in names)


async def patient(call: Callable[[], Awaitable[T]]) -> T:
    """Try for 20 s, as whoever keeps the consensus would."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except MetropolisError:
                await asyncio.sleep(0.05)


async def leader_of(world: World, name: str) -> str:
    status = await world.store(name).status()
    names = {member.member_id: member.name for member in await world.membership(name).members()}
    return names[status.leader_id]


@pytest.fixture(params=["memory", "etcd"])
def run(request: pytest.FixtureRequest) -> Run:
    def run_in_memory(scenario: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            await scenario(MemoryWorld())

        simulate(main, seed=1)

    def run_in_etcd(scenario: Callable[[World], Awaitable[None]]) -> None:
        processes: Processes = request.getfixturevalue("etcd_processes")

        async def main() -> None:
            async with AsyncExitStack() as clients:
                await scenario(EtcdWorld(processes, clients))

        asyncio.run(main())

    return run_in_memory if request.param == "memory" else run_in_etcd


def test_a_learner_is_deaf_until_its_promotion_and_gone_after_its_removal(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.found("one")
        one = world.membership("one")
        await world.store("one").transact([], [Put(b"/a", b"old")])
        member_id = await world.add("two", via="one")
        learner = world.store("two")
        with pytest.raises(UnavailableError):
            await learner.get(b"/a")
        with pytest.raises(UnavailableError):
            async with learner.watch(b"/", start_revision=0) as watch:
                await watch.receive()
        assert (await learner.status()).is_learner

        await patient(lambda: one.promote(member_id))
        with pytest.raises(FailedPreconditionError):
            await one.promote(member_id)
        item = await patient(lambda: learner.get(b"/a"))
        assert item is not None
        assert item.value == b"old"
        assert [(m.name, m.is_learner) for m in sorted(await one.members(), key=_name)] == [
            ("one", False),
            ("two", False),
        ]

        await patient(lambda: one.remove(member_id))
        assert [member.name for member in await one.members()] == ["one"]
        await world.store("one").transact([], [Put(b"/a", b"new")])

    run(scenario)


def test_a_lost_leader_is_replaced_and_a_lost_majority_refuses(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.found(*TRIO)
        await world.store("one").transact([], [Put(b"/a", b"kept")])
        for name in TRIO:
            item = await world.store(name).get(b"/a")
            assert item is not None

        dead = await leader_of(world, "one")
        world.kill(dead)
        with pytest.raises(UnavailableError):
            await world.store(dead).get(b"/a")
        first, second = (name for name in TRIO if name != dead)
        await patient(lambda: world.store(first).transact([], [Put(b"/b", b"kept")]))
        assert await leader_of(world, second) in {first, second}

        async with world.store(first).watch(b"/", start_revision=0) as watch:
            world.kill(second)
            async with asyncio.timeout(15):
                with pytest.raises(UnavailableError):
                    await watch.receive()
        for change in (
            world.store(first).transact([], [Put(b"/c", b"never")]),
            world.store(first).get(b"/a"),
            world.membership(first).members(),
            world.membership(first).add_learner("https://four:7834"),
        ):
            with pytest.raises(UnavailableError):
                await change
        status = await world.store(first).status()
        assert status.leader_id == 0
        assert status.errors

        await world.revive(second)
        found = await patient(lambda: world.store(first).range(b"/"))
        assert [item.key for item in found.items] == [b"/a", b"/b"]
        await patient(lambda: world.store(second).transact([], [Put(b"/c", b"now")]))

    run(scenario)


def test_only_the_leader_can_hand_leadership_over(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.found(*TRIO)
        leader = await leader_of(world, "one")
        heir, other = (name for name in TRIO if name != leader)
        heir_id = (await world.store(heir).status()).member_id
        with pytest.raises(FailedPreconditionError):
            await world.membership(other).move_leader(heir_id)
        await patient(lambda: world.membership(leader).move_leader(heir_id))
        assert (await world.store(heir).status()).leader_id == heir_id
        await patient(lambda: world.store(other).transact([], [Put(b"/a", b"")]))

    run(scenario)


def _name(member: Member) -> str:
    return member.name
