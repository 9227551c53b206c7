# SPDX-License-Identifier: Apache-2.0
"""Who answers, whom it points to, and who is not admitted any more."""

import asyncio

import pytest

from metropolis.api.curator_pb2 import GetCurrentLeaderRequest, GetCurrentLeaderResponse
from metropolis.api.management_pb2 import ApproveNodeRequest
from metropolis.base.errors import UnavailableError
from metropolis.cluster.office import LeaderHint, Office, Pointing, Presiding, Vacant
from metropolis.cluster.services.curator_local import CuratorLocal
from metropolis.cluster.services.management import approve_node
from metropolis.cluster.state import keys
from metropolis.consensus.store import Put
from metropolis.rpc.status import NodeDeletedError, NotLeaderError
from unit.cluster.harness import FIRST, OWNER, Bench, Call, ended, machine, run

NEW = machine(2)


def test_an_office_answers_points_or_knows_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        with pytest.raises(NotLeaderError) as caught:
            office.leading()
        assert not caught.value.leader_id
        office.view.set(Pointing(LeaderHint(node_id=NEW.node_id, host="192.0.2.2")))
        with pytest.raises(NotLeaderError) as caught:
            office.leading()
        assert (caught.value.leader_id, caught.value.leader_host) == (NEW.node_id, "192.0.2.2")
        office.view.set(Presiding(bench.leader))
        assert office.leading() is bench.leader

    run(scenario)


Following = Call[GetCurrentLeaderRequest, GetCurrentLeaderResponse]


def pointing(host: str) -> Pointing:
    return Pointing(LeaderHint(node_id=NEW.node_id, host=host))


def test_who_asks_for_the_leader_hears_each_change_once() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        call = Following(OWNER, GetCurrentLeaderRequest(), ends=False)
        local = CuratorLocal(office, b"ca")
        task = bench.group.create_task(local.get_current_leader(call))
        await asyncio.sleep(1)
        office.view.set(pointing(""))  # nobody could use that
        await asyncio.sleep(0.5)
        office.view.set(pointing("192.0.2.2"))
        await call.wait_sent(1)
        for view in (pointing("192.0.2.2"), Vacant(), pointing("192.0.2.2")):
            office.view.set(view)
            await asyncio.sleep(1)
        office.view.set(Presiding(bench.leader))
        await call.wait_sent(2)
        assert [(answer.leader_node_id, answer.leader_host) for answer in call.sent] == [
            (NEW.node_id, "192.0.2.2"),
            (FIRST.node_id, "10.0.0.1"),
        ]
        await bench.report(FIRST, "192.0.2.1")
        office.view.set(Presiding(bench.leader))
        assert (await call.wait_sent(3))[-1].leader_host == "192.0.2.1"
        await ended(task)

    run(scenario)


@pytest.mark.parametrize("view", [Vacant(), pointing("")])
def test_who_asks_where_nobody_knows_is_sent_on(view: Vacant | Pointing) -> None:
    async def scenario(_bench: Bench) -> None:
        office = Office(FIRST.node_id)
        office.view.set(view)
        call = Following(OWNER, GetCurrentLeaderRequest(), ends=False)
        with pytest.raises(NotLeaderError):
            await CuratorLocal(office, b"ca").get_current_leader(call)
        assert not call.sent

    run(scenario)


def test_a_node_with_a_damaged_record_is_refused_but_not_called_deleted() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        office.view.set(Presiding(bench.leader))
        await bench.enrol(NEW)
        await bench.store.transact([], [Put(keys.node(NEW.node_id), b"\xff")])
        await bench.leader.confirmed()
        assert office.revoked(NEW.peer) == "the node's record is damaged"

    run(scenario)


def test_only_members_are_admitted_by_a_leader() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        assert office.revoked(NEW.peer) is None  # who does not lead does not know
        office.view.set(Presiding(bench.leader))
        await bench.leader.confirmed()
        assert office.revoked(OWNER) is None
        assert office.revoked(FIRST.peer) is None
        with pytest.raises(NodeDeletedError):
            office.revoked(NEW.peer)
        await bench.register(NEW)
        assert office.revoked(NEW.peer) == "the node is NEW"
        await approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        assert office.revoked(NEW.peer) == "the node is STANDBY"
        await bench.enrol(machine(3))
        assert office.revoked(machine(3).peer) is None

    run(scenario)


def test_a_leader_that_is_behind_its_own_writes_refuses_nobody_for_good() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        office.view.set(Presiding(bench.leader))
        await bench.leader.confirmed()
        bench.leader._written_revision = bench.nodes.mirror.revision + 1
        with pytest.raises(UnavailableError):
            office.revoked(NEW.peer)
        assert office.revoked(FIRST.peer) is None
        await bench.report(FIRST, "192.0.2.1")
        with pytest.raises(NodeDeletedError):
            office.revoked(NEW.peer)

    run(scenario)
