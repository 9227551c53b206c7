# SPDX-License-Identifier: Apache-2.0
"""Nodes that lose the ConsensusMember role, the leader included, go on as nodes of the cluster."""

import asyncio

import pytest

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import UnavailableError
from metropolis.sim.loop import simulate
from sim.node.grown import Cluster, grown, parts, require, runs_a_member

PATIENCE_S = 60.0  # a stale heartbeat is noticed after 15 s


async def wait_settled(cluster: Cluster, *, voters: int) -> None:
    """Wait until every node is HEALTHY by what it said after now, and so many vote."""
    await asyncio.sleep(PATIENCE_S)

    async def settled() -> None:
        found = await cluster.nodes()
        require(all(node.health == Node.HEALTH_HEALTHY for node in found))
        require(len(cluster.world.consensus.cluster.roster.voters()) == voters)

    await cluster.insist(settled)


@pytest.mark.parametrize("number", range(3))
def test_a_member_that_leaves_stays_a_healthy_node_and_may_come_back(number: int) -> None:
    """The founder leads, so machine 0 is the leader that removes itself."""

    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            machine = cluster.world.machines[number]
            await cluster.set_consensus(machine, is_member=False)
            await wait_settled(cluster, voters=2)
            assert not runs_a_member(machine)
            assert "curator" in parts(machine)
            await cluster.set_consensus(machine, is_member=True)
            await wait_settled(cluster, voters=3)
            assert runs_a_member(machine)

    simulate(scenario, seed=1)


def test_a_node_that_left_follows_leaders_who_came_after_that() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=4) as cluster:
            gone, *others = cluster.world.machines
            await cluster.set_consensus(gone, is_member=False)
            await wait_settled(cluster, voters=3)
            for machine in others:
                await machine.crash()
                await wait_answering(cluster)
                machine.boot()
                await wait_settled(cluster, voters=3)

    simulate(scenario, seed=1)


async def wait_answering(cluster: Cluster) -> None:
    async def answering() -> None:
        if not await cluster.nodes():
            raise UnavailableError("nobody is there")

    await cluster.insist(answering)
