# SPDX-License-Identifier: Apache-2.0
"""A node that its cluster has deleted notices, stops, and stays stopped; a mistake is none."""

import asyncio

import pytest

from metropolis.base.ids import parse_node_id
from metropolis.cluster.state import keys
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.store import Delete, Put
from metropolis.node.roles.rolefetch import DELETED_CERTAIN_S
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import grown, parts, runs_a_member

MEMBER_PARTS = {"curator", "statuspush", "heartbeat", "hosts"}
DELETION_NOTICED_S = DELETED_CERTAIN_S + 5.0


def says_that_it_was_deleted(machine: Machine) -> bool:
    return any("This node was deleted from its cluster" in line for line in machine.log)


async def noticed(machine: Machine) -> None:
    async with asyncio.timeout(DELETION_NOTICED_S):
        while not (says_that_it_was_deleted(machine) and not parts(machine) & MEMBER_PARTS):  # noqa: ASYNC110  # the log tells nobody
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("voters", [1, 3])
def test_a_deleted_node_stops_what_a_member_does_and_says_so(voters: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=voters) as cluster:
            gone = cluster.world.machines[2]
            assert parts(gone) >= MEMBER_PARTS
            assert runs_a_member(gone) is (voters == 3)
            await cluster.delete(gone)
            await noticed(gone)
            assert not runs_a_member(gone)
            assert parts(gone) == {"controlplane", "connection", "rolefetch", "nodemgmt"}
            assert len(await cluster.nodes()) == 2

    simulate(scenario, seed=1)


def test_a_deleted_node_does_not_act_as_a_member_after_a_restart() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            gone = cluster.world.machines[2]
            await cluster.delete(gone)
            await noticed(gone)
            await gone.stop()
            gone.log.clear()
            gone.boot()
            await noticed(gone)
            assert not runs_a_member(gone)

    simulate(scenario, seed=1)


def test_a_node_that_was_off_when_it_was_deleted_learns_of_it_when_it_comes_back() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            gone = cluster.world.machines[2]
            await gone.stop()
            await cluster.delete(gone)
            gone.boot()
            await noticed(gone)
            assert not runs_a_member(gone)

    simulate(scenario, seed=1)


def test_the_last_other_node_of_a_cluster_learns_that_it_was_deleted() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=2) as cluster:
            gone = cluster.world.machines[1]
            await cluster.delete(gone)
            await noticed(gone)

    simulate(scenario, seed=1)


def test_a_node_that_the_leader_forgets_for_a_moment_goes_on() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=1) as cluster:
            founder, forgotten = cluster.world.machines
            key = keys.node(parse_node_id(await cluster.node_id(forgotten)))
            (member_id,) = cluster.world.consensus.members_on(founder.address)
            store = MemoryStore(cluster.world.consensus.cluster, member_id)
            record = await store.get(key)
            assert record is not None
            await forgotten.crash()  # so that it sees no tombstone, only refusals
            await store.transact((), [Delete(key)])
            forgotten.boot()
            await asyncio.sleep(DELETED_CERTAIN_S / 2)
            assert any("The leader refuses this node" in line for line in forgotten.log)
            await store.transact((), [Put(key, record.value)])
            await asyncio.sleep(DELETION_NOTICED_S)
            assert not says_that_it_was_deleted(forgotten)
            assert parts(forgotten) >= MEMBER_PARTS

    simulate(scenario, seed=1)
