# SPDX-License-Identifier: Apache-2.0
"""A simulated cluster whose machines are all enrolled, and an operator who changes it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from metropolis.api import management_pb2
from metropolis.api.rpc_management import Management
from metropolis.base.errors import UnavailableError
from metropolis.rpc.channel import Channel
from metropolis.sim.life import install
from metropolis.sim.node_program import metropolis_node
from metropolis.sim.operator import Operator, retry
from metropolis.sim.world import Machine, World, make_world
from metropolis.supervision import State


class Cluster:
    """Enrolled machines, of which the first `voters` are consensus members."""

    def __init__(self, world: World, operator: Operator, channel: Channel) -> None:
        self.world = world
        self.operator = self._operator = operator
        self._channel = channel

    @property
    def channel(self) -> Channel:
        """The operator's way to the leader."""
        return self._channel

    async def install(self, machine: Machine) -> None:
        """Give a machine that is off what makes it register."""
        install(machine, await self._operator.registration_parameters(self._channel))

    async def approve_all(self) -> None:
        """Approve whoever waits."""
        for node in await self.nodes():
            await self._operator.approve(self._channel, node.pubkey)

    async def insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        await retry(attempt, within_s=120, rng=self.world.rng)

    async def nodes(self) -> Sequence[management_pb2.Node]:
        return await self.operator.nodes(self._channel)

    async def node_id(self, machine: Machine) -> str:
        return next(
            node.id
            for node in await self.nodes()
            if node.status.external_address == machine.address
        )

    async def grow(self, voters: int) -> None:
        first, *others = self.world.machines
        for machine in others:
            install(machine, await self.operator.registration_parameters(self._channel))
            machine.boot()

        async def approve() -> None:
            nodes = await self.nodes()
            for node in nodes:
                await self.operator.approve(self._channel, node.pubkey)
            require(sum(bool(node.status.external_address) for node in nodes) > len(others))

        await self.insist(approve)
        for machine in (first, *others)[:voters]:
            await self.set_consensus(machine, is_member=True)

        async def all_vote() -> None:
            require(len(self.world.consensus.cluster.roster.voters()) == voters)

        await self.insist(all_vote)

    async def set_consensus(self, machine: Machine, *, is_member: bool) -> None:
        request = management_pb2.UpdateNodeRolesRequest(
            id=await self.node_id(machine), consensus_member=is_member
        )
        if not is_member:
            request.kubernetes_controller = False  # only members may be that

        async def attempt() -> None:
            await self._channel.call(Management.UPDATE_NODE_ROLES, request)

        await self.insist(attempt)

    async def delete(self, machine: Machine) -> None:
        request = management_pb2.DeleteNodeRequest(id=await self.node_id(machine))
        request.safety_bypass_has_roles.SetInParent()
        request.safety_bypass_not_decommissioned.SetInParent()

        async def attempt() -> None:
            await self._channel.call(Management.DELETE_NODE, request)

        await self.insist(attempt)


def require(condition: bool) -> None:
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


def runs_a_member(machine: Machine) -> bool:
    assert machine.supervisor is not None
    states = machine.supervisor.states()
    return "root.role.controlplane.consensus" in states
