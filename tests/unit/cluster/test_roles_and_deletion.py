# SPDX-License-Identifier: Apache-2.0
"""What operators do to a node's roles, and how a node is forgotten."""

import asyncio
from dataclasses import replace

import pytest

from metropolis.api.curator_pb2 import GetConsensusStatusRequest, GetConsensusStatusResponse
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from metropolis.cluster.services import management
from metropolis.cluster.services.curator import get_consensus_status
from metropolis.cluster.state import keys, pki
from metropolis.cluster.sync import synchronize
from metropolis.consensus.store import Put
from metropolis.pki.certificates import serial_number
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import (
    FIRST,
    OWNER,
    Bench,
    delete,
    held,
    machine,
    make_member,
    run,
    set_roles,
)

NEW, OTHER = machine(2), machine(3)


def test_a_worker_without_roles_still_has_the_field() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        assert (await bench.show(NEW)).HasField("roles")

    run(scenario)


def test_roles_are_given_and_taken_one_by_one() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await set_roles(bench, NEW, kubernetes_worker=True)
        assert await held(bench, NEW) == ("KubernetesWorker",)
        await set_roles(bench, NEW)
        assert await held(bench, NEW) == ("KubernetesWorker",)
        await set_roles(bench, NEW, kubernetes_worker=False)
        assert await held(bench, NEW) == ()
        with pytest.raises(FailedPreconditionError):
            await set_roles(bench, NEW, kubernetes_controller=True)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True, kubernetes_controller=True)
        assert await held(bench, NEW) == ("ConsensusMember", "KubernetesController")

    run(scenario)


def test_a_new_consensus_member_is_told_whom_it_finds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True)
        told = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert told.ca_certificate == bench.born.consensus.ca_certificate
        assert told.initial_crl == bench.born.consensus.initial_crl
        assert [(peer.name, peer.url) for peer in told.peers] == [
            (FIRST.node_id, f"https://{FIRST.node_id}:7834")
        ]
        status = await get_consensus_status(bench.leader, GetConsensusStatusRequest(), OWNER)
        member = GetConsensusStatusResponse.EtcdMember
        assert {(entry.id, entry.status) for entry in status.etcd_member} == {
            (FIRST.node_id, member.STATUS_FULL),
            (NEW.node_id, member.STATUS_LEARNER),
        }
        await set_roles(bench, NEW, consensus_member=True)  # a repeat changes nothing
        again = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert again == told

    run(scenario)


def test_a_second_learner_has_to_wait() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await bench.enrol(OTHER)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True)
        with pytest.raises(UnavailableError, match="could not add node"):
            await set_roles(bench, OTHER, consensus_member=True)
        assert await held(bench, OTHER) == ()

    run(scenario)


def test_a_request_that_cannot_be_carried_out_whole_changes_nothing() -> None:
    """The original removes the consensus member first and then finds out."""

    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        with pytest.raises(FailedPreconditionError):
            await set_roles(bench, NEW, consensus_member=False, kubernetes_controller=True)
        assert len(await bench.membership.members()) == 2
        assert await held(bench, NEW) == ("ConsensusMember",)

    run(scenario)


def test_a_removed_member_is_refused_by_its_peers_and_may_come_back() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await set_roles(bench, NEW, kubernetes_controller=True)
        before = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=False, kubernetes_controller=False)
        assert await held(bench, NEW) == ()
        assert len(await bench.membership.members()) == 1
        crl = await bench.raw(pki.CONSENSUS.crl)
        assert crl is not None
        assert pki.read_crl(crl) == ((serial_number(before.peer_certificate),), 2)
        await set_roles(bench, NEW, consensus_member=True)
        after = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert serial_number(after.peer_certificate) != serial_number(before.peer_certificate)
        assert after.initial_crl == crl

    run(scenario)


def test_the_last_voter_keeps_its_role() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="only voting member"):
            await set_roles(bench, FIRST, consensus_member=False, kubernetes_controller=False)
        assert await held(bench, FIRST) == ("ConsensusMember", "KubernetesController")

    run(scenario)


def test_a_node_is_deleted_only_when_nothing_is_lost_or_the_caller_insists() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        with pytest.raises(FailedPreconditionError, match="decommissioned first"):
            await delete(bench, NEW)
        await set_roles(bench, NEW, kubernetes_worker=True)
        with pytest.raises(FailedPreconditionError, match="KubernetesWorker"):
            await delete(bench, NEW, force=True)
        with pytest.raises(FailedPreconditionError, match="decommissioned first"):
            await delete(bench, NEW, roles=True)
        await delete(bench, NEW, roles=True, force=True)
        with pytest.raises(NotFoundError):
            await delete(bench, NEW, roles=True, force=True)
        left = (await bench.store.range(b"namespaced:")).items
        assert not [item.key for item in left if NEW.node_id.encode() in item.key + item.value]

    run(scenario)


def test_a_machine_that_waits_is_deleted_without_insisting() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await delete(bench, NEW)
        await bench.register(NEW)
        await management.approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        await delete(bench, NEW)
        assert len(await bench.list()) == 1

    run(scenario)


def test_deleting_a_member_of_the_consensus_removes_it_there_first() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await asyncio.sleep(6)
        await delete(bench, NEW, roles=True, force=True)
        assert len(await bench.membership.members()) == 1
        sentence = await synchronize(bench.leader)
        assert sentence is not None
        assert sentence.startswith(f"Renewing what {FIRST.node_id} is told")
        assert await synchronize(bench.leader) is None
        told = (await bench.leader.load(FIRST.node_id)).message.roles.consensus_member
        assert told.initial_crl == await bench.raw(pki.CONSENSUS.crl)

    run(scenario)


def test_the_leader_does_not_delete_itself() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="leads the cluster"):
            await delete(bench, FIRST, roles=True, force=True)

    run(scenario)


def test_a_damaged_record_hides_nobody_and_can_be_deleted() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await bench.store.transact([], [Put(keys.node(NEW.node_id), b"\xff\xff\xff")])
        assert [node.id for node in await bench.list()] == [FIRST.node_id]
        assert [node.id for node in await bench.list()] == [FIRST.node_id]
        assert bench.log_text().count("is damaged") == 1
        with pytest.raises(FailedPreconditionError, match="damaged"):
            await delete(bench, NEW, force=True)
        await delete(bench, NEW, roles=True, force=True)
        assert await bench.raw(keys.node(NEW.node_id)) is None

    run(scenario)


def test_a_leader_deposed_while_it_decides_removes_no_member() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await asyncio.sleep(6)
        real = bench.membership

        class Deposing:
            """Lists the members, and meanwhile somebody else is elected."""

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            async def members(self) -> object:
                found = await real.members()
                await bench.depose()
                return found

        bench.leader.members = replace(bench.leader.members, membership=Deposing())  # type: ignore[arg-type]
        with pytest.raises(NotLeaderError):
            await set_roles(bench, NEW, consensus_member=False)
        assert len(await real.members()) == 2

    run(scenario)
