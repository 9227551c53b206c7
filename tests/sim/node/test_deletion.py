# SPDX-License-Identifier: Apache-2.0
"""A node that its cluster has deleted notices, stops, and stays stopped; a mistake is none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from metropolis.api import management_pb2
from metropolis.api.rpc_management import Management
from metropolis.base.errors import UnavailableError
from metropolis.base.ids import parse_node_id
from metropolis.cluster.state import keys
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.store import Delete, Put
from metropolis.node.roles.rolefetch import DELETED_CERTAIN_S
from metropolis.rpc.channel import Channel
from metropolis.sim.life import install
from metropolis.sim.loop import simulate
from metropolis.sim.node_program import metropolis_node
from metropolis.sim.operator import Operator, retry
from metropolis.sim.world import Machine, World, make_world
from metropolis.supervision import State

MEMBER_PARTS = {"curator", "statuspush", "heartbeat", "hosts"}
DELETION_NOTICED_S = DELETED_CERTAIN_S + 5.0


class Cluster:
    """Enrolled machines, of which the first `voters` are consensus members."""

    def __init__(self, world: World, operator: Operator, channel: Channel) -> None:
        self.world = world
        self._operator = operator
        self._channel = channel

    async def insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        await retry(attempt, within_s=120, rng=self.world.rng)

    async def nodes(self) -> Sequence[management_pb2.Node]:
        return await self._operator.nodes(self._channel)

    async def node_id(self, machine: Machine) -> str:
        return next(
            node.id
            for node in await self.nodes()
            if node.status.external_address == machine.address
        )

    async def grow(self, voters: int) -> None:
        first, *others = self.world.machines
        for machine in others:
            install(machine, await self._operator.registration_parameters(self._channel))
            machine.boot()

        async def approve() -> None:
            nodes = await self.nodes()
            for node in nodes:
                await self._operator.approve(self._channel, node.pubkey)
            _require(sum(bool(node.status.external_address) for node in nodes) > len(others))

        await self.insist(approve)
        for machine in (first, *others)[:voters]:
            node_id = await self.node_id(machine)
            await self.insist(
                lambda node_id=node_id: self._operator.set_consensus(  # type: ignore[misc]
                    self._channel, node_id, is_member=True
                )
            )

        async def all_vote() -> None:
            _require(len(self.world.consensus.cluster.roster.voters()) == voters)

        await self.insist(all_vote)

    async def delete(self, machine: Machine) -> None:
        request = management_pb2.DeleteNodeRequest(id=await self.node_id(machine))
        request.safety_bypass_has_roles.SetInParent()
        request.safety_bypass_not_decommissioned.SetInParent()

        async def attempt() -> None:
            await self._channel.call(Management.DELETE_NODE, request)

        await self.insist(attempt)


def _require(condition: bool) -> None:
    if not condition:
        raise UnavailableError("not yet")


@asynccontextmanager
async def grown(*, machines: int, voters: int) -> AsyncIterator[Cluster]:
    async with make_world(seed=1, machine_count=machines, program=metropolis_node) as world:
        operator = Operator(
            world.operator_transport(),
            addresses=[machine.address for machine in world.machines],
            rng=world.fork_rng(),
        )
        install(world.machines[0], operator.founding_parameters())
        world.machines[0].boot()
        await operator.take_ownership(within_s=60)
        async with operator.connect() as channel:
            cluster = Cluster(world, operator, channel)

            async def addressed() -> None:
                await operator.registration_parameters(channel)

            await cluster.insist(addressed)
            await cluster.grow(voters)
            yield cluster


def parts(machine: Machine) -> set[str]:
    """Parts of the role server that run."""
    assert machine.supervisor is not None
    return {
        dn.split(".")[2]
        for dn, status in machine.supervisor.states().items()
        if dn.startswith("root.role.") and status.state is State.HEALTHY
    }


def says_that_it_was_deleted(machine: Machine) -> bool:
    return any("This node was deleted from its cluster" in line for line in machine.log)


def runs_a_member(machine: Machine) -> bool:
    assert machine.supervisor is not None
    states = machine.supervisor.states()
    return "root.role.controlplane.consensus" in states


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
            await store.transact((), [Delete(key)])
            await asyncio.sleep(DELETED_CERTAIN_S / 2)
            assert any("was deleted" in line for line in forgotten.log)
            await store.transact((), [Put(key, record.value)])
            await asyncio.sleep(DELETION_NOTICED_S)
            assert not says_that_it_was_deleted(forgotten)
            assert parts(forgotten) >= MEMBER_PARTS

    simulate(scenario, seed=1)
