# SPDX-License-Identifier: Apache-2.0
"""Elections in worlds that break. How they go in healthy ones, real etcd included: contract."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from typing_extensions import override

from metropolis.consensus.election import (
    ROUND_DELAY_S,
    Election,
    Following,
    Leading,
    Unknown,
    _Candidacy,
    fence,
)
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.memory.watch import MemoryWatch
from metropolis.consensus.store import Compare, KeyValue, Put, Target
from metropolis.sim import note, simulate
from metropolis.sim.loop import SimLoop

PREFIX = b"/leader/"
TTL_S = 3
SEEDS = range(100)


class Node:
    """A contender on a member of its own; a crash leaves its key behind."""

    def __init__(self, cluster: MemoryCluster, member_id: int, name: str) -> None:
        self.cluster = cluster
        self.member_id = member_id
        self.name = name
        self.store = MemoryStore(cluster, member_id)
        self.election = self._new_election()
        self.task: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        self.election = self._new_election()
        self.task = group.create_task(self.election.run())

    async def crash(self) -> None:
        assert self.task is not None
        self.cluster.stop_member(self.member_id)  # so that nothing can be said any more
        await self.stop()

    def restart(self, group: asyncio.TaskGroup) -> None:
        self.cluster.start_member(self.member_id, name=self.name)
        self.start(group)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            self.task = None

    def _new_election(self) -> Election:
        return Election(
            self.store,
            prefix=PREFIX,
            node_id=self.name,
            ttl_s=TTL_S,
            report=lambda sentence: note(f"{self.name}: {sentence}"),
        )


def trio(faults: Faults | None = None) -> list[Node]:
    cluster = MemoryCluster(faults=faults)
    ids = [cluster.bootstrap(name="m0", peer_url="https://m0:7834")]
    for name in ("m1", "m2"):
        ids.append(cluster.roster.add(f"https://{name}:7834", is_learner=False).member_id)
        cluster.start_member(ids[-1], name=name)
    return [Node(cluster, member_id, f"m{number}") for number, member_id in enumerate(ids)]


def leaders(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes if isinstance(node.election.state.current, Leading)]


async def nemesis(group: asyncio.TaskGroup, nodes: list[Node], rng: Random) -> None:
    """Break one thing, or mend, or wait."""
    cluster, node = nodes[0].cluster, rng.choice(nodes)
    match rng.randrange(8):
        case 0:
            cluster.disconnect_watches()
        case 1:
            cluster.lose_leader(for_s=rng.uniform(0, 4))
        case 2:
            cluster.isolate(node.member_id)
        case 3:
            cluster.heal()
        case 4 if node.task is not None:
            await node.crash()
        case 5 if node.task is None:
            node.restart(group)
        case 6:
            cluster.slow_disk(node.member_id, delay_s=rng.choice([0, 0.2, 2.5]))
        case _:
            pass
    await asyncio.sleep(rng.uniform(0, 3))


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_breaks_at_most_one_leads_and_only_the_newest_writes(seed: int) -> None:
    rng = Random(seed)
    faults = Faults(
        delay_s=lambda _member_id: rng.choice([0.0, 0.001, 0.05, 0.4]),
        replication_delay_s=lambda _member_id: rng.choice([0.0, 0.01, 0.5]),
        hang_s=lambda _member_id: rng.uniform(0, 5),
        loses_reply=lambda _member_id: rng.random() < 0.1,
    )

    async def write(node: Node, accepted: list[int]) -> None:
        """Write whenever leading, fenced; note the term of what was accepted."""
        while True:
            state = await node.election.state.wait_for(lambda state: isinstance(state, Leading))
            assert isinstance(state, Leading)
            await asyncio.sleep(rng.uniform(0, 0.5))
            keyspace = node.cluster.keyspace
            done = keyspace.transact([fence(state)], [Put(b"/term", b"")], [])
            node.cluster.commit()
            if done.succeeded:
                accepted.append(state.lock_revision)

    async def main() -> None:
        nodes = trio(faults)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.after_batch.append(lambda: check_one_leader(nodes))
        accepted: list[int] = []
        async with asyncio.TaskGroup() as group:
            writers = []
            for node in nodes:
                node.start(group)
            for _number in range(25):
                writers = [group.create_task(write(node, accepted)) for node in nodes]
                await nemesis(group, nodes, rng)
                for writer in writers:
                    writer.cancel()
            nodes[0].cluster.heal()
            for node in nodes:
                nodes[0].cluster.slow_disk(node.member_id, delay_s=0)
                if node.task is None:
                    node.restart(group)
            async with asyncio.timeout(30):
                await converged(nodes)
            for node in nodes:
                await node.stop()
        assert accepted == sorted(accepted), "an old leader wrote after a new one"

    simulate(main, seed=seed, limit_s=600)


def check_one_leader(nodes: list[Node]) -> None:
    assert len(leaders(nodes)) <= 1, leaders(nodes)


async def converged(nodes: list[Node]) -> None:
    """Wait until one leads and all others follow that one."""
    while True:
        await asyncio.sleep(0.1)
        if len(names := leaders(nodes)) == 1:
            states = [node.election.state.current for node in nodes]
            following = [state.leader for state in states if isinstance(state, Following)]
            if following == names * (len(nodes) - 1):
                return


def test_a_store_that_refuses_is_not_asked_in_a_hot_loop() -> None:
    async def main() -> None:
        node, *others = trio()
        for other in others:
            node.cluster.stop_member(other.member_id)
        calls = 0

        def count(_member_id: int) -> float:
            nonlocal calls
            calls += 1
            return 0.0

        node.cluster.faults.delay_s = count
        async with asyncio.TaskGroup() as group:
            node.start(group)
            await asyncio.sleep(100 * ROUND_DELAY_S)
            assert 50 <= calls <= 101
            assert node.election.state.current == Unknown()
            await node.stop()

    simulate(main, seed=1)


def test_a_grant_whose_answer_comes_too_late_is_not_trusted() -> None:
    async def main() -> None:
        node, *_ = trio()
        node.cluster.faults.delay_s = lambda _member_id: 1.2  # 2.4 s for a lease of 3 s
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        claims: list[float] = []

        def look() -> None:
            state = node.election.state.current
            if isinstance(state, Leading):
                item = node.cluster.keyspace.get(state.lock_key)
                assert item is not None, "leading without a key"
                claims.append(loop.time())

        loop.after_batch.append(look)
        async with asyncio.TaskGroup() as group:
            node.start(group)
            await asyncio.sleep(30)
            assert not claims
            node.cluster.faults.delay_s = lambda _member_id: 0.0
            await asyncio.sleep(10)
            assert claims
            await node.stop()

    simulate(main, seed=1)


class SlowlyClosingStore(MemoryStore):
    """Leaving a watch takes its time, as it may on a stuck connection."""

    @override
    @asynccontextmanager
    async def watch(self, prefix: bytes, *, start_revision: int) -> AsyncIterator[MemoryWatch]:
        async with super().watch(prefix, start_revision=start_revision) as watch:
            try:
                yield watch
            finally:
                await asyncio.sleep(5)


def test_leadership_ends_in_time_however_long_the_clean_up_takes() -> None:
    async def main() -> None:
        node, *_ = trio()
        node.store = SlowlyClosingStore(node.cluster, node.member_id)
        node.cluster.faults.hang_s = lambda _member_id: 60
        async with asyncio.TaskGroup() as group:
            node.start(group)
            await node.election.state.wait_for(lambda state: isinstance(state, Leading))
            node.cluster.isolate(node.member_id)
            await asyncio.sleep(TTL_S)
            assert node.election.state.current == Unknown()
            await node.stop()

    simulate(main, seed=1)


class SilentWatchStore(MemoryStore):
    """Its watches never tell anything."""

    @override
    @asynccontextmanager
    async def watch(self, prefix: bytes, *, start_revision: int) -> AsyncIterator[MemoryWatch]:
        async with super().watch(prefix + b"nothing", start_revision=start_revision) as watch:
            yield watch


def test_a_lease_that_is_gone_ends_the_leadership_at_the_next_renewal() -> None:
    async def main() -> None:
        node, *_ = trio()
        node.store = SilentWatchStore(node.cluster, node.member_id)
        async with asyncio.TaskGroup() as group:
            node.start(group)
            lock = await node.election.state.wait_for(lambda state: isinstance(state, Leading))
            assert isinstance(lock, Leading)
            item = node.cluster.keyspace.get(lock.lock_key)
            assert item is not None
            await MemoryStore(node.cluster, node.member_id).revoke_lease(item.lease_id)
            async with asyncio.timeout(TTL_S / 3 + 0.1):
                await node.election.state.wait_for(lambda state: isinstance(state, Unknown))
            await node.stop()

    simulate(main, seed=1)


def test_a_leader_that_loses_its_watch_keeps_leading() -> None:
    async def main() -> None:
        node, *_ = trio()
        async with asyncio.TaskGroup() as group:
            node.start(group)
            await node.election.state.wait_for(lambda state: isinstance(state, Leading))
            version = node.election.state.version
            for _number in range(5):
                node.cluster.disconnect_watches()
                await asyncio.sleep(0.5)
            assert node.election.state.version == version
            await node.stop()

    simulate(main, seed=1)


def test_nobody_leads_on_a_lease_that_may_have_ended_while_the_loop_stood_still() -> None:
    async def main() -> None:
        node, *_ = trio()
        own = KeyValue(key=b"/leader/1", value=b"", create_revision=2, mod_revision=2)
        await asyncio.sleep(10)
        for safe_until_s, expected in ((10.0, Unknown), (10.1, Leading)):
            candidacy = _Candidacy(lease_id=1, key=own.key, safe_until_s=safe_until_s)
            node.election._judge(candidacy, {own.key: own})
            assert isinstance(node.election.state.current, expected)

    simulate(main, seed=1)


def test_a_fence_compares_the_creation_of_the_lock() -> None:
    assert fence(Leading(lock_key=b"/leader/1", lock_revision=7)) == Compare(
        b"/leader/1", Target.CREATE_REVISION, 7
    )


def test_a_resignation_counts_also_when_who_asks_for_it_is_cancelled_by_it() -> None:
    """As a leader's own work is, the moment that its leadership ends."""

    async def scenario() -> None:
        nodes = trio(Faults(delay_s=lambda _member_id: 0.05))
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                node.start(group)
                await asyncio.sleep(2)
            (first,) = leaders(nodes)
            leader = next(node for node in nodes if node.name == first)
            resigning = group.create_task(leader.election.resign())
            await leader.election.state.wait_for(lambda state: isinstance(state, Unknown))
            resigning.cancel()
            await asyncio.sleep(2 * TTL_S)
            (second,) = leaders(nodes)
            assert second != first
            for node in nodes:
                await node.stop()

    simulate(scenario, seed=1)
