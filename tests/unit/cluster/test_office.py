# SPDX-License-Identifier: Apache-2.0
"""Who answers, whom it points to, and who is not admitted any more."""

import pytest

from metropolis.api.management_pb2 import ApproveNodeRequest
from metropolis.base.errors import UnavailableError
from metropolis.cluster.office import LeaderHint, Office, Pointing, Presiding
from metropolis.cluster.services.management import approve_node
from metropolis.rpc.status import NodeDeletedError, NotLeaderError
from unit.cluster.harness import FIRST, OWNER, Bench, machine, run

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
