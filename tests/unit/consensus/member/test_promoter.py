# SPDX-License-Identifier: Apache-2.0
"""Learners get their vote from the member that leads, as soon as they have caught up."""

import asyncio
import contextlib
import functools
from random import Random

from metropolis.consensus.member.promoter import promote_learners
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.host.sim.clock import SimClock
from metropolis.sim import simulate
from metropolis.supervision import LogTree, ReadOptions, Supervisor, Value


def status_of(cluster: MemoryCluster, member_id: int) -> ConsensusStatus:
    return ConsensusStatus(
        store=MemoryStore(cluster, member_id),
        membership=MemoryMembership(cluster, member_id),
        member_id=member_id,
    )


class Promoter:
    """A promoter under a supervisor, and what it logged."""

    def __init__(self, status: Value[ConsensusStatus | None]) -> None:
        self.log_tree = LogTree(clock=SimClock())
        self.supervisor = Supervisor(
            functools.partial(promote_learners, status=status),
            log_tree=self.log_tree,
            clock=SimClock(),
            rng=Random(1),
        )

    async def run_for(self, duration_s: float) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self.supervisor.run()
        reader = self.log_tree.read("root", ReadOptions(backlog=None))
        lines = [str(entry) for entry in reader.backlog]
        return "\n".join(lines)


async def with_a_learner() -> tuple[MemoryCluster, int, int]:
    cluster = MemoryCluster()
    first = cluster.bootstrap(name="n1", peer_url="https://n1:7834")
    await asyncio.sleep(10)
    learner = await MemoryMembership(cluster, first).add_learner("https://n2:7834")
    return cluster, first, learner.member_id


def test_a_learner_is_promoted_when_it_has_caught_up_and_not_before() -> None:
    async def scenario() -> None:
        cluster, first, learner = await with_a_learner()
        promoter = Promoter(Value(status_of(cluster, first)))
        async with asyncio.TaskGroup() as tasks:
            logged = tasks.create_task(promoter.run_for(30))
            await asyncio.sleep(5)
            assert await learners(cluster, first) == [learner]
            cluster.start_member(learner, name="n2", catch_up_s=10)
            await asyncio.sleep(5)
            assert await learners(cluster, first) == [learner]
            await asyncio.sleep(10)
            assert await learners(cluster, first) == []
        text = await logged
        assert "Waiting for learner n2 to start" in text
        assert "Waiting for learner n2 to become ready" in text
        assert text.count("Promoted learner n2") == 1
        assert text.count("to start") == 1, "a wait is named once, not every second"

    simulate(scenario, seed=1)


def test_only_the_member_that_leads_promotes() -> None:
    async def scenario() -> None:
        cluster, first, learner = await with_a_learner()
        cluster.start_member(learner, name="n2")
        await Promoter(Value(status_of(cluster, learner))).run_for(20)
        assert await learners(cluster, first) == [learner]

    simulate(scenario, seed=1)


def test_it_waits_for_a_member_and_survives_its_absence() -> None:
    async def scenario() -> None:
        cluster, first, learner = await with_a_learner()
        status: Value[ConsensusStatus | None] = Value(None)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Promoter(status).run_for(30))
            await asyncio.sleep(5)
            cluster.start_member(learner, name="n2")
            assert await learners(cluster, first) == [learner]
            status.set(status_of(cluster, first))
            await asyncio.sleep(5)
            assert await learners(cluster, first) == []

    simulate(scenario, seed=1)


async def learners(cluster: MemoryCluster, asked: int) -> list[int]:
    members = await MemoryMembership(cluster, asked).members()
    return [member.member_id for member in members if member.is_learner]
