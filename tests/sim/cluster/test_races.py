# SPDX-License-Identifier: Apache-2.0
"""Machines, operators and two leaders that both believe to lead, over a store that loses replies.

Callers know nothing about who leads: they ask either leader, and repeat what failed.
"""

import asyncio
from contextlib import suppress
from functools import partial
from random import Random

import pytest

from metropolis.api.common_pb2 import NodeStatus
from metropolis.api.curator_pb2 import JoinNodeRequest, RegisterNodeRequest, UpdateNodeStatusRequest
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    DeleteNodeRequest,
    GetNodesRequest,
    GetRegisterTicketRequest,
    Node,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
)
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.services.curator import update_node_status
from metropolis.cluster.services.enrolment import commit_node, join_node, register_node
from metropolis.cluster.services.management import (
    approve_node,
    delete_node,
    get_register_ticket,
    update_node_labels,
    update_node_roles,
)
from metropolis.cluster.services.nodes import get_nodes
from metropolis.cluster.state import keys, records
from metropolis.pki.identity import server_verifier
from metropolis.sim.loop import simulate
from sim.cluster.weather import Cabinet, Weather
from unit.cluster.harness import FIRST, OWNER, Bench, Call, Machine, bench, commit_request, machine

MACHINES = [machine(number) for number in range(2, 8)]


async def live(cabinet: Cabinet, one: Machine, certificates: dict[int, set[bytes]]) -> None:
    """Enrol, as a node does: repeat everything until it is done."""
    ticket = await cabinet.ask(
        lambda leader: get_register_ticket(leader, GetRegisterTicketRequest(), OWNER)
    )
    request = RegisterNodeRequest(
        register_ticket=ticket.ticket, join_key=one.join_key, have_local_tpm=True
    )
    await cabinet.ask(lambda leader: register_node(leader, request, one.stranger))
    while True:
        try:
            answer = await cabinet.ask(
                lambda leader: commit_node(leader, commit_request(one), one.stranger)
            )
        except PermissionDeniedError:
            await asyncio.sleep(0.5)
        else:
            certificates[one.number].add(answer.node_certificate)
            break
    status = UpdateNodeStatusRequest(
        node_id=one.node_id, status=NodeStatus(external_address=f"192.0.2.{one.number}")
    )
    await cabinet.ask(lambda leader: update_node_status(leader, status, one.peer))
    joined = await cabinet.ask(
        lambda leader: join_node(
            leader, JoinNodeRequest(using_sealed_configuration=True), one.joiner
        )
    )
    assert joined.cluster_unlock_key == one.unlock_key


async def _approve(request: ApproveNodeRequest, leader: Leader) -> None:
    await approve_node(leader, request, OWNER)


async def approve_all(cabinet: Cabinet, *, until: asyncio.Event) -> None:
    """Approve whatever waits, as a hurried operator does."""

    async def list_new(leader: Leader) -> list[Node]:
        call: Call[GetNodesRequest, Node] = Call(
            OWNER, GetNodesRequest(filter="node.state == NODE_STATE_NEW")
        )
        await get_nodes(leader, call)
        return call.sent

    while not until.is_set():
        for node in await cabinet.ask(list_new):
            request = ApproveNodeRequest(pubkey=node.pubkey)
            with suppress(NotFoundError):  # deleted meanwhile
                await cabinet.ask(partial(_approve, request))
        await asyncio.sleep(0.2)


async def label(cabinet: Cabinet, key: str) -> None:
    """Set one label; many do so on the same node at once."""
    request = UpdateNodeLabelsRequest(id=FIRST.node_id)
    request.upsert.add(key=key, value="set")
    await cabinet.ask(lambda leader: update_node_labels(leader, request, OWNER))


async def worker(cabinet: Cabinet, one: Machine) -> None:
    """Give a role as soon as there is a node."""
    request = UpdateNodeRolesRequest(id=one.node_id, kubernetes_worker=True)
    while True:
        try:
            await cabinet.ask(lambda leader: update_node_roles(leader, request, OWNER))
        except NotFoundError:
            await asyncio.sleep(0.3)
        else:
            return


@pytest.mark.parametrize("seed", range(25))
def test_nothing_acknowledged_is_lost_and_nobody_is_doubled(seed: int) -> None:
    async def scenario() -> None:
        async with bench(seed=seed) as made:
            weather = Weather(seed)
            made.cluster.faults = weather.faults()
            cabinet, done = Cabinet(made, seed), asyncio.Event()
            certificates: dict[int, set[bytes]] = {one.number: set() for one in MACHINES}
            operator = made.group.create_task(approve_all(cabinet, until=done))
            async with asyncio.TaskGroup() as group:
                group.create_task(cabinet.revolt(Random(seed), longest_s=1.5))
                for one in MACHINES:
                    group.create_task(live(cabinet, one, certificates))
                    group.create_task(worker(cabinet, one))
                for number in range(8):
                    group.create_task(label(cabinet, f"label-{number}"))
            done.set()
            weather.is_calm = True
            await operator
            await _check(made, certificates)
            cabinet.close()

    simulate(scenario, seed=seed)


async def _check(made: Bench, certificates: dict[int, set[bytes]]) -> None:
    stored = (await made.store.range(keys.NODES)).items
    by_id = {record.node_id: record for record in map(records.decode, stored)}
    assert set(by_id) == {one.node_id for one in [FIRST, *MACHINES]}
    for one in MACHINES:
        record = by_id[one.node_id]
        assert record.state is NodeState.UP
        assert record.message.cluster_unlock_key == one.unlock_key
        assert record.external_address == f"192.0.2.{one.number}"
        assert record.roles.kubernetes_worker
        (certificate,) = certificates[one.number]
        server_verifier(made.born.ca_certificate, one.node_id)(certificate)
    assert {f"label-{number}" for number in range(8)} <= set(by_id[FIRST.node_id].labels)
    indexed = (await made.store.range(keys.JOIN_KEYS)).items
    assert {item.value.decode() for item in indexed} == set(by_id)
    assert len(indexed) == len(by_id)


@pytest.mark.parametrize("seed", range(25))
def test_a_node_deleted_while_it_enrols_is_there_whole_or_not_at_all(seed: int) -> None:
    one = MACHINES[0]
    request = DeleteNodeRequest(
        id=one.node_id,
        safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
    )

    async def remove(cabinet: Cabinet, draw: Random) -> None:
        await asyncio.sleep(draw.uniform(0, 2))
        with suppress(NotFoundError):
            await cabinet.ask(lambda leader: delete_node(leader, request, OWNER))

    async def enrol(cabinet: Cabinet) -> None:
        certificates: dict[int, set[bytes]] = {one.number: set()}
        with suppress(NotFoundError, FailedPreconditionError):  # deleted under its hands
            await live(cabinet, one, certificates)

    async def scenario() -> None:
        async with bench(seed=seed) as made:
            weather = Weather(seed)
            made.cluster.faults = weather.faults()
            cabinet, done = Cabinet(made, seed), asyncio.Event()
            operator = made.group.create_task(approve_all(cabinet, until=done))
            async with asyncio.TaskGroup() as group:
                group.create_task(cabinet.revolt(Random(seed), longest_s=1.5))
                group.create_task(enrol(cabinet))
                group.create_task(remove(cabinet, Random(seed)))
            done.set()
            weather.is_calm = True
            await operator
            found = (await made.store.range(b"namespaced:")).items
            traces = [item.key for item in found if one.node_id.encode() in item.key + item.value]
            record = await made.raw(keys.node(one.node_id))
            assert (record is None) == (not traces), traces
            cabinet.close()

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(25))
def test_a_node_that_commits_while_it_is_deleted_is_a_member_or_never_was_one(seed: int) -> None:
    """Without a bypass a member is not deleted, so only one of the two is acknowledged."""
    one = MACHINES[0]
    commits: list[bytes] = []

    async def commit(cabinet: Cabinet, draw: Random) -> None:
        await asyncio.sleep(draw.uniform(0, 0.3))
        request = commit_request(one)
        with suppress(NotFoundError):
            answer = await cabinet.ask(lambda leader: commit_node(leader, request, one.stranger))
            commits.append(answer.node_certificate)

    async def remove(cabinet: Cabinet, draw: Random) -> None:
        await asyncio.sleep(draw.uniform(0, 0.3))
        request = DeleteNodeRequest(id=one.node_id)
        with suppress(NotFoundError, FailedPreconditionError):
            await cabinet.ask(lambda leader: delete_node(leader, request, OWNER))

    async def scenario() -> None:
        async with bench(seed=seed) as made:
            await made.register(one)
            await approve_node(made.leader, ApproveNodeRequest(pubkey=one.key), OWNER)
            weather = Weather(seed)
            weather.loses_nothing = True
            made.cluster.faults = weather.faults()
            cabinet = Cabinet(made, seed)
            async with asyncio.TaskGroup() as group:
                group.create_task(commit(cabinet, Random(seed)))
                group.create_task(remove(cabinet, Random(seed + 1)))
            weather.is_calm = True
            record = await made.raw(keys.node(one.node_id))
            assert (record is None) == (not commits)
            cabinet.close()

    simulate(scenario, seed=seed)
