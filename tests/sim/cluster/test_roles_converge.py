# SPDX-License-Identifier: Apache-2.0
"""Roles and members of the consensus agree in the end, whatever is lost on the way."""

import asyncio
from contextlib import suppress
from functools import partial
from random import Random

import pytest

from metropolis.api.management_pb2 import UpdateNodeRolesRequest
from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.roles import member_node_id
from metropolis.cluster.services.management import update_node_roles
from metropolis.cluster.sync import synchronize
from metropolis.consensus.store import Member
from metropolis.sim.loop import simulate
from sim.cluster.weather import Cabinet, Weather
from unit.cluster.harness import FIRST, OWNER, Bench, Machine, bench, machine

MACHINES = [machine(number) for number in range(2, 5)]


async def toggle(cabinet: Cabinet, one: Machine, draw: Random) -> None:
    """Give and take the role, at random, once each; what is refused is refused."""
    for _ in range(6):
        await asyncio.sleep(draw.uniform(0, 15))
        request = UpdateNodeRolesRequest(
            id=one.node_id,
            consensus_member=draw.random() < 0.6,
            kubernetes_controller=draw.choice([None, True, False]),
        )
        with suppress(FailedPreconditionError, TimeoutError):
            async with asyncio.timeout(20):  # the operator's patience
                await cabinet.ask(partial(_update, request))


async def _update(request: UpdateNodeRolesRequest, leader: Leader) -> None:
    await update_node_roles(leader, request, OWNER)


async def serve_members(made: Bench, *, until: asyncio.Event) -> None:
    """Start whoever is invited, and promote whoever has caught up."""
    while not until.is_set():
        for one in MACHINES:
            made.start_member(one)
        try:
            for member in await made.membership.members():
                if member.is_learner:
                    await made.membership.promote(member.member_id)
        except MetropolisError:
            pass
        await asyncio.sleep(1)


async def members_of(made: Bench) -> list[Member]:
    return list(await made.membership.members())


@pytest.mark.parametrize("seed", range(25))
def test_roles_and_members_agree_in_the_end(seed: int) -> None:
    async def scenario() -> None:
        async with bench(seed=seed) as made:
            for one in MACHINES:
                await made.enrol(one)
            weather = Weather(seed)
            made.cluster.faults = weather.faults()
            cabinet, done = Cabinet(made, seed), asyncio.Event()
            serving = made.group.create_task(serve_members(made, until=done))
            async with asyncio.TaskGroup() as group:
                group.create_task(cabinet.revolt(Random(seed), longest_s=25))
                for one in MACHINES:
                    group.create_task(toggle(cabinet, one, Random(seed * 10 + one.number)))
            weather.is_calm = True
            await asyncio.sleep(10)
            done.set()
            await serving
            leader = cabinet.leaders[-1]
            passes = 0
            while await synchronize(leader) is not None:
                passes += 1
                assert passes < 20, "it never settles"
            await _check(made, cabinet)
            cabinet.close()

    simulate(scenario, seed=seed)


async def _check(made: Bench, cabinet: Cabinet) -> None:
    members = await members_of(made)
    nodes = (await cabinet.leaders[-1].confirmed()).all()
    holders = {node.node_id for node in nodes if node.roles.consensus_member}
    assert holders == {member_node_id(member) for member in members}
    assert FIRST.node_id in holders
    for node in nodes:
        assert node.roles.consensus_member or not node.roles.kubernetes_controller
        if node.roles.consensus_member:
            told = node.message.roles.consensus_member
            assert told.peer_certificate
            assert told.initial_crl == await cabinet.leaders[-1].members.pki.crl()
