# SPDX-License-Identifier: Apache-2.0
"""The leader's background work: roles follow the members of the consensus."""

import asyncio

from metropolis.api.management_pb2 import UpdateNodeRolesRequest
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.services.management import update_node_roles
from metropolis.cluster.state import keys, pki
from metropolis.cluster.sync import INTERVAL_S, keep_synchronized, synchronize
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.store import Delete, Put
from unit.cluster.harness import FIRST, OWNER, Bench, ended, machine, run

NEW, OTHER = machine(2), machine(3)


async def settle(bench: Bench) -> list[str]:
    """Make passes until nothing is left to do; return what was done."""
    done: list[str] = []
    while (sentence := await synchronize(bench.leader)) is not None:
        done.append(sentence)
        assert len(done) < 10
    return done


def test_nothing_is_done_when_roles_and_members_agree() -> None:
    async def scenario(bench: Bench) -> None:
        before = (await bench.store.range(b"")).items
        assert await settle(bench) == []
        assert (await bench.store.range(b"")).items == before

    run(scenario)


def test_a_member_gets_the_role_that_it_lacks_with_all_it_must_know() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        await bench.membership.add_learner(peer_url(NEW.node_id))
        (sentence,) = await settle(bench)
        assert sentence == f"Giving ConsensusMember to {NEW.node_id}: it is a member"
        record = await bench.leader.load(NEW.node_id)
        assert record.roles == Roles(consensus_member=True)
        told = record.message.roles.consensus_member
        assert told.peer_certificate == await bench.raw(pki.CONSENSUS.certificate(NEW.node_id))
        assert [peer.name for peer in told.peers] == [FIRST.node_id]

    run(scenario)


def test_a_member_of_no_node_is_removed() -> None:
    async def scenario(bench: Bench) -> None:
        await asyncio.sleep(6)
        await bench.membership.add_learner(peer_url(NEW.node_id))
        (sentence,) = await settle(bench)
        assert sentence.startswith(f"Removing {NEW.node_id} from the consensus")
        assert len(await bench.membership.members()) == 1

    run(scenario)


def test_roles_of_a_node_that_was_removed_are_dropped_and_its_certificate_revoked() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        request = UpdateNodeRolesRequest(
            id=NEW.node_id,
            consensus_member=True,
            kubernetes_controller=True,
            kubernetes_worker=True,
        )
        await update_node_roles(bench.leader, request, OWNER)
        (learner,) = [m for m in await bench.membership.members() if m.is_learner]
        await bench.membership.remove(learner.member_id)
        done = await settle(bench)
        assert done[0].startswith(f"Taking the control plane's roles from {NEW.node_id}")
        assert (await bench.leader.load(NEW.node_id)).roles == Roles(kubernetes_worker=True)
        crl = await bench.raw(pki.CONSENSUS.crl)
        assert crl is not None
        assert len(pki.read_crl(crl)[0]) == 1
        told = (await bench.leader.load(FIRST.node_id)).message.roles.consensus_member
        assert told.initial_crl == crl  # the others are told whom to refuse

    run(scenario)


def test_each_pass_makes_one_change() -> None:
    async def scenario(bench: Bench) -> None:
        for new in (NEW, OTHER):
            await bench.enrol(new)
            record = await bench.leader.load(new.node_id)
            await bench.leader.save(record.with_roles(Roles(consensus_member=True), None))
        first = await synchronize(bench.leader)
        assert first is not None
        held = [(await bench.leader.load(new.node_id)).roles.names for new in (NEW, OTHER)]
        assert sorted(held) == [(), ("ConsensusMember",)]
        assert len(await settle(bench)) == 1

    run(scenario)


def test_a_learner_that_has_not_started_is_told_of_new_peers() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        await update_node_roles(
            bench.leader, UpdateNodeRolesRequest(id=NEW.node_id, consensus_member=True), OWNER
        )
        await bench.membership.update(
            bench.member_ids[FIRST.node_id], f"https://{FIRST.node_id}:7999"
        )
        assert len(await settle(bench)) == 1
        told = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert told.peers[0].url.endswith(":7999")
        bench.start_member(NEW)
        await bench.membership.update(
            bench.member_ids[FIRST.node_id], f"https://{FIRST.node_id}:7834"
        )
        assert await settle(bench) == []  # who has started does not read it any more

    run(scenario)


def test_a_damaged_certificate_of_one_node_does_not_keep_others_waiting() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.store.transact([], [Put(pki.CONSENSUS.certificate(FIRST.node_id), b"junk")])
        await bench.enrol(NEW)
        record = await bench.leader.load(NEW.node_id)
        await bench.leader.save(record.with_roles(Roles(consensus_member=True), None))
        assert len(await settle(bench)) == 1
        assert not (await bench.leader.load(NEW.node_id)).roles.names

    run(scenario)


def test_the_leader_without_a_record_of_its_own_does_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        await bench.membership.add_learner(peer_url(OTHER.node_id))
        await bench.store.transact([], [Delete(keys.node(FIRST.node_id))])
        assert await settle(bench) == []
        assert len(await bench.membership.members()) == 2

    run(scenario)


def test_passes_go_on_after_a_failure() -> None:
    async def scenario(bench: Bench) -> None:
        task = bench.group.create_task(keep_synchronized(bench.leader))
        bench.cluster.lose_leader(for_s=2 * INTERVAL_S)
        await asyncio.sleep(3 * INTERVAL_S)
        assert "Synchronizing roles and consensus failed" in bench.log_text()
        await bench.membership.add_learner(peer_url(OTHER.node_id))
        await asyncio.sleep(2 * INTERVAL_S)
        assert len(await bench.membership.members()) == 1
        await ended(task)

    run(scenario)
