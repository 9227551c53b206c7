# SPDX-License-Identifier: Apache-2.0
"""How a node is taken out of service: every step, every refusal, and every crash in between."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
from typing_extensions import override

from metropolis.api.curator_pb2 import JoinNodeRequest
from metropolis.api.decommission_pb2 import (
    AcceptWipeRequest,
    DecommissionProgress,
    DecommissionRequest,
    ReportWipedRequest,
)
from metropolis.api.introspection_pb2 import ExplainNodeRequest
from metropolis.api.management_pb2 import DecommissionNodeRequest
from metropolis.base.errors import FailedPreconditionError, NotFoundError, UnavailableError
from metropolis.cluster import retire
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.office import Office, Presiding
from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.planner.health import HEARTBEAT_TIMEOUT_S
from metropolis.cluster.retire import retire_all
from metropolis.cluster.scrub import keep_scrubbed
from metropolis.cluster.services.callers import NodeName
from metropolis.cluster.services.decommission import (
    accept_wipe,
    decommission,
    decommission_node,
    report_wiped,
)
from metropolis.cluster.services.enrolment import join_node
from metropolis.cluster.services.introspection import explain_node
from metropolis.cluster.state import keys, pki
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Compare, Delete, Operation, Put, TransactionResult
from metropolis.pki.certificates import serial_number
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NodeRetiredError, NotLeaderError
from unit.cluster.harness import (
    FIRST,
    OWNER,
    Bench,
    Call,
    Machine,
    delete,
    ended,
    held,
    machine,
    make_member,
    run,
    set_roles,
)

T = TypeVar("T")
NEW, OTHER = machine(2), machine(3)
ROUNDS_MAX = 100
EFFECTS_MIN = 10  # one per step at least, and the member
FAREWELL = b"\x17" * 32


def hear(bench: Bench, *machines: Machine) -> None:
    for each in machines:
        bench.leader.heartbeats.hear(each.node_id)


async def begin(bench: Bench, who: Machine, *, force: bool = False) -> None:
    await retire.start(bench.leader, NodeName(node_id=who.node_id), is_forced=force)


async def step_of(bench: Bench, who: Machine) -> Step:
    return (await retire.stored_decommission(bench.leader, who.node_id)).step


async def say_goodbye(bench: Bench, who: Machine) -> None:
    """Do what the node does."""
    await accept_wipe(bench.leader, AcceptWipeRequest(farewell_public_key=FAREWELL), who.peer)
    await report(bench, who, FAREWELL)


async def report(bench: Bench, who: Machine, key: bytes) -> None:
    caller = Peer(kind=PeerKind.EPHEMERAL, public_key=key)
    await report_wiped(bench.leader, ReportWipedRequest(node_id=who.node_id), caller)


def start_scrubbers(bench: Bench, *machines: Machine) -> list[asyncio.Task[None]]:
    return [
        bench.group.create_task(
            keep_scrubbed(bench.store, each.node_id, bench.log_tree.leveled("scrub"))
        )
        for each in machines
    ]


class CrashError(Exception):
    """The leader is gone."""


class Fuse:
    """Ends the leader at its n-th effect on the world: before it, or right after it."""

    def __init__(self, number: int, *, is_after: bool) -> None:
        self.left = number
        self._is_after = is_after

    async def through(self, effect: Callable[[], Awaitable[T]]) -> T:
        self.left -= 1
        if self.left == 0 and not self._is_after:
            raise CrashError
        result = await effect()
        if self.left == 0:
            raise CrashError
        return result


class FusedStore(MemoryStore):
    def __init__(self, cluster: MemoryCluster, member_id: int, fuse: Fuse) -> None:
        super().__init__(cluster, member_id)
        self._fuse = fuse

    @override
    async def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
    ) -> TransactionResult:
        def go() -> Awaitable[TransactionResult]:
            return super(FusedStore, self).transact(compares, success, failure)

        if any(isinstance(each, Put | Delete) for each in success):
            return await self._fuse.through(go)
        return await go()


class FusedMembership(MemoryMembership):
    def __init__(self, cluster: MemoryCluster, member_id: int, fuse: Fuse) -> None:
        super().__init__(cluster, member_id)
        self._fuse = fuse

    @override
    async def remove(self, member_id: int) -> None:
        await self._fuse.through(lambda: super(FusedMembership, self).remove(member_id))


def another_leader(bench: Bench, fuse: Fuse) -> Leader:
    """Return the leader of another tenure: it remembers nothing."""
    member_id = bench.member_ids[FIRST.node_id]
    status = ConsensusStatus(
        store=FusedStore(bench.cluster, member_id, fuse),
        membership=FusedMembership(bench.cluster, member_id, fuse),
        member_id=member_id,
    )
    leader = Leader(bench.leader.own, status, bench.nodes, fence=bench.fence)
    leader.heartbeats = bench.leader.heartbeats
    return leader


async def grow(bench: Bench) -> None:
    """Three voting members; the one to go holds every role."""
    for each in (NEW, OTHER):
        await bench.enrol(each)
        await make_member(bench, each)
    await set_roles(bench, NEW, kubernetes_controller=True, kubernetes_worker=True)
    await asyncio.sleep(6)
    hear(bench, FIRST, NEW, OTHER)


async def settle(bench: Bench, *alive: Machine, leader: Leader | None = None) -> None:
    """Let the decommission go on until it is done. `alive`: who beats meanwhile."""
    for _ in range(ROUNDS_MAX):
        if not await retire_all(leader or bench.leader):
            return
        hear(bench, *alive)
        await asyncio.sleep(0.5)
    raise AssertionError("the decommission does not end")


async def say_goodbye_in_time(bench: Bench, who: Machine) -> None:
    """Be a node: wipe when told so."""
    for _ in range(ROUNDS_MAX):
        found = await bench.raw(keys.decommission(who.node_id))
        if found is not None and await step_of(bench, who) is Step.WIPE:
            await say_goodbye(bench, who)
            return
        await asyncio.sleep(0.3)


def test_a_node_goes_through_every_step_and_leaves_no_key_behind() -> None:
    async def scenario(bench: Bench) -> None:
        await grow(bench)
        scrubbers = start_scrubbers(bench, FIRST, OTHER)
        certificate = await bench.raw(pki.CLUSTER.certificate(pki.node_name(NEW.node_id)))
        assert certificate is not None
        call: Call[DecommissionRequest, DecommissionProgress] = Call(
            OWNER, DecommissionRequest(id=NEW.node_id)
        )
        watching = bench.group.create_task(decommission(bench.leader, call))
        await call.wait_sent(0)
        await asyncio.sleep(0.1)
        assert await retire_all(bench.leader)
        assert await held(bench, NEW) == ()
        assert await step_of(bench, NEW) is Step.WIPE
        assert (await bench.leader.load(NEW.node_id)).state is NodeState.DECOMMISSIONED
        await say_goodbye(bench, NEW)
        await settle(bench, FIRST, NEW, OTHER)
        await watching
        assert list(dict.fromkeys(Step(each.step) for each in call.sent)) == list(Step)
        assert call.sent[-1].message == "The node is out of service and its machine is wiped."
        names = {each.name for each in await bench.membership.members()}
        assert names == {FIRST.node_id, OTHER.node_id}
        record = await bench.leader.load(NEW.node_id)
        assert record.message.cluster_unlock_key == b""
        assert record.message.join_key == b""
        assert await bench.raw(keys.join_key(NEW.join_key)) is None
        assert await bench.raw(pki.CONSENSUS.certificate(NEW.node_id)) is None
        assert await bench.raw(pki.CLUSTER.certificate(pki.node_name(NEW.node_id))) is None
        crl = await bench.raw(pki.CLUSTER.crl)
        assert crl is not None
        assert serial_number(certificate) in pki.read_crl(crl)[0]
        assert bench.cluster.keyspace.compacted >= record.mod_revision
        await delete(bench, NEW)
        assert await bench.raw(keys.decommission(NEW.node_id)) is None
        for task in scrubbers:
            await ended(task)

    run(scenario)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_leader_may_crash_before_and_after_every_effect(is_after: bool) -> None:
    crashes = 0

    async def scenario(bench: Bench, number: int) -> None:
        nonlocal crashes
        await grow(bench)
        scrubbers = start_scrubbers(bench, FIRST, OTHER)
        fuse = Fuse(number, is_after=is_after)
        leader = another_leader(bench, fuse)
        goodbye = bench.group.create_task(say_goodbye_in_time(bench, NEW))
        try:
            await retire.start(leader, NodeName(node_id=NEW.node_id), is_forced=False)
            await settle(bench, FIRST, NEW, OTHER, leader=leader)
        except CrashError:
            crashes += 1
        await begin(bench, NEW)  # as people do who were not answered
        await settle(bench, FIRST, NEW, OTHER)
        await goodbye
        assert await step_of(bench, NEW) is Step.DONE
        record = await bench.leader.load(NEW.node_id)
        assert record.state is NodeState.DECOMMISSIONED
        assert record.roles.names == ()
        assert record.message.cluster_unlock_key == b""
        assert len(await bench.membership.members()) == 2
        assert await bench.raw(keys.join_key(NEW.join_key)) is None
        assert await bench.raw(pki.CLUSTER.certificate(pki.node_name(NEW.node_id))) is None
        assert bench.cluster.keyspace.compacted >= record.mod_revision
        for task in scrubbers:
            await ended(task)

    number = 1
    while True:
        before = crashes
        run(lambda bench, number=number: scenario(bench, number))  # type: ignore[misc]
        if crashes == before:
            break
        number += 1
    assert crashes >= EFFECTS_MIN


def test_an_unreachable_node_needs_force_and_then_nobody_waits_for_it() -> None:
    async def scenario(bench: Bench) -> None:
        await grow(bench)
        scrubbers = start_scrubbers(bench, FIRST, OTHER)
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S + 1)
        hear(bench, FIRST, OTHER)
        with pytest.raises(FailedPreconditionError, match="cannot be reached") as caught:
            await decommission_node(bench.leader, DecommissionNodeRequest(id=NEW.node_id), OWNER)
        assert "--force" in caught.value.remedy
        await begin(bench, NEW, force=True)
        await settle(bench, FIRST, OTHER)
        begun = await retire.stored_decommission(bench.leader, NEW.node_id)
        assert begun.step is Step.DONE
        assert not begun.message.wiped
        assert (
            bench.leader.retiring.said(NEW.node_id)
            .current[-1]
            .sentence.endswith("was never wiped.")
        )
        for task in scrubbers:
            await ended(task)

    run(scenario)


def test_a_node_that_falls_silent_can_be_forced_later() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        hear(bench, NEW)
        await begin(bench, NEW)
        assert await retire_all(bench.leader)
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S + 1)
        assert await retire_all(bench.leader)
        said = bench.leader.retiring.said(NEW.node_id).current[-1]
        assert (said.step, said.is_waiting) == (Step.WIPE, True)
        assert "--force" in said.sentence
        explained = await explain_node(bench.leader, ExplainNodeRequest(node_id=NEW.node_id), OWNER)
        assert explained.findings[0].code == "DECOMMISSIONING"
        assert "WIPE" in explained.findings[0].summary
        await begin(bench, NEW, force=True)
        scrubbers = start_scrubbers(bench, FIRST)
        await settle(bench, FIRST)
        explained = await explain_node(bench.leader, ExplainNodeRequest(node_id=NEW.node_id), OWNER)
        assert explained.findings[0].code == "DECOMMISSIONED"
        assert "never wiped" in explained.findings[0].summary
        await ended(scrubbers[0])

    run(scenario)


def test_the_last_voter_stays_and_the_remedy_says_the_safe_order() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="only voting member") as caught:
            await begin(bench, FIRST, force=True)
        assert "ConsensusMember" in caught.value.remedy
        assert await bench.raw(keys.decommission(FIRST.node_id)) is None

    run(scenario)


@pytest.mark.parametrize("is_other_alive", [True, False])
def test_three_members_become_two_only_if_the_two_can_decide(is_other_alive: bool) -> None:
    async def scenario(bench: Bench) -> None:
        await grow(bench)
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S + 1)
        hear(bench, FIRST, NEW, *([OTHER] if is_other_alive else []))
        if is_other_alive:
            await begin(bench, NEW)
            return
        for force in (False, True):
            with pytest.raises(FailedPreconditionError, match="2 of 2 voting members") as caught:
                await begin(bench, NEW, force=force)
            assert OTHER.node_id in caught.value.remedy

    run(scenario)


def test_a_new_leader_says_that_it_does_not_know_yet() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        bench.leader.heartbeats.tenure_start_s = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="not heard"):
            await begin(bench, NEW)

    run(scenario)


def test_a_leader_hands_over_before_it_goes() -> None:
    async def scenario(bench: Bench) -> None:
        await grow(bench)
        handed: list[bool] = []

        async def hand_over() -> None:
            handed.append(True)
            raise NotLeaderError

        bench.leader.hand_over = hand_over
        await begin(bench, FIRST)
        with pytest.raises(NotLeaderError):
            await retire_all(bench.leader)
        assert handed == [True]
        assert await step_of(bench, FIRST) is Step.DRAIN_CONSENSUS
        assert await held(bench, FIRST) == ("ConsensusMember",)

    run(scenario)


def test_a_node_that_leaves_gets_no_roles_and_is_deleted_only_by_who_insists() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        hear(bench, NEW)
        await begin(bench, NEW)
        with pytest.raises(FailedPreconditionError, match="gets no new roles"):
            await set_roles(bench, NEW, kubernetes_worker=True)
        assert await retire_all(bench.leader)
        with pytest.raises(FailedPreconditionError, match="still being decommissioned"):
            await delete(bench, NEW)
        await delete(bench, NEW, force=True)
        assert await bench.raw(keys.decommission(NEW.node_id)) is None
        assert not await retire_all(bench.leader)

    run(scenario)


def test_only_the_key_that_was_named_reports_a_wipe() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        hear(bench, NEW)
        with pytest.raises(NotFoundError):
            await report(bench, NEW, FAREWELL)
        await begin(bench, NEW)
        with pytest.raises(NotFoundError):
            await report(bench, NEW, b"")  # nobody has named a key yet
        await accept_wipe(bench.leader, AcceptWipeRequest(farewell_public_key=FAREWELL), NEW.peer)
        for key in (b"\x18" * 32, NEW.key, NEW.join_key):
            with pytest.raises(NotFoundError):
                await report(bench, NEW, key)
        assert not (await retire.stored_decommission(bench.leader, NEW.node_id)).message.wiped
        await report(bench, NEW, FAREWELL)
        await report(bench, NEW, FAREWELL)
        assert (await retire.stored_decommission(bench.leader, NEW.node_id)).message.wiped

    run(scenario)


def test_a_node_that_leaves_is_admitted_until_it_is_wiped_and_never_after() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        hear(bench, NEW)
        office = Office(FIRST.node_id)
        office.view.set(Presiding(bench.leader))
        await begin(bench, NEW)
        assert await retire_all(bench.leader)
        assert office.revoked(NEW.peer) is None
        fresh = another_leader(bench, Fuse(0, is_after=True))
        office.view.set(Presiding(fresh))
        with pytest.raises(UnavailableError):
            office.revoked(NEW.peer)  # a new leader has not read yet whom it may refuse
        office.view.set(Presiding(bench.leader))
        await say_goodbye(bench, NEW)
        scrubber = start_scrubbers(bench, FIRST)[0]
        await settle(bench, FIRST, NEW)
        with pytest.raises(NodeRetiredError):
            office.revoked(NEW.peer)
        await ended(scrubber)

    run(scenario)


def test_a_node_that_starts_again_gets_its_key_until_it_is_wiped_and_never_after() -> None:
    """Or it could not open its disk, where the certificate is that says goodbye."""

    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        hear(bench, NEW)
        await begin(bench, NEW)
        assert await retire_all(bench.leader)
        request = JoinNodeRequest(using_sealed_configuration=True)
        answer = await join_node(bench.leader, request, NEW.joiner)
        assert answer.cluster_unlock_key == NEW.unlock_key
        await say_goodbye(bench, NEW)
        scrubber = start_scrubbers(bench, FIRST)[0]
        await settle(bench, FIRST)
        with pytest.raises(NotFoundError):
            await join_node(bench.leader, request, NEW.joiner)
        await ended(scrubber)

    run(scenario)


def test_a_forced_decommission_goes_on_without_a_member_that_is_off() -> None:
    async def scenario(bench: Bench) -> None:
        await grow(bench)
        third = await bench.enrol(machine(4))
        scrubber = start_scrubbers(bench, FIRST)[0]
        hear(bench, FIRST, NEW, OTHER, third)
        await begin(bench, third)
        assert await retire_all(bench.leader)
        await say_goodbye(bench, third)
        for _ in range(40):
            hear(bench, FIRST, NEW)
            assert await retire_all(bench.leader)
            await asyncio.sleep(0.5)
        said = bench.leader.retiring.said(third.node_id).current[-1]
        assert (said.step, said.is_waiting) == (Step.SCRUB, True)
        others = start_scrubbers(bench, NEW)
        await begin(bench, third, force=True)
        await settle(bench, FIRST, NEW)
        assert await step_of(bench, third) is Step.DONE
        for task in (scrubber, *others):
            await ended(task)

    run(scenario)
