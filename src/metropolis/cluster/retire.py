# SPDX-License-Identifier: Apache-2.0
"""The leader's work on nodes that are being decommissioned: start it, and go on until it is done.

Whatever happened before is in the store, so a new leader goes on where the last one stopped. See
`planner.decommission` for the steps; here is only how each is done, and that it may be done twice.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from metropolis.api.decommission_pb2 import ScrubRecord
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    NotFoundError,
    UnavailableError,
    chain,
)
from metropolis.base.ids import NodeId
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeEvent, NodeState, advance
from metropolis.cluster.planner import decommission as planner
from metropolis.cluster.planner.decommission import Facts, Hearing, Move, Step, Work
from metropolis.cluster.planner.health import judge
from metropolis.cluster.planner.roles import Roles, find_member, member_node_id
from metropolis.cluster.retiring import Said
from metropolis.cluster.scrub import read_order
from metropolis.cluster.state import decommissions, keys, pki
from metropolis.cluster.state.decommissions import Decommission
from metropolis.cluster.state.fenced import Change, ConflictError, is_unchanged, retry_conflicts
from metropolis.cluster.state.records import NodeRecord
from metropolis.consensus.store import Delete, Get, KeyValue, Member, Put
from metropolis.rpc.status import NotLeaderError

POLL_S: Final = 0.5  # while something elsewhere is waited for: a member's answer, a heartbeat
RETRY_S: Final = 2.0


class Named(Protocol):
    """A node as a request names it."""

    @property
    def node_id(self) -> NodeId: ...

    def check(self, record: NodeRecord) -> None:
        """Check that the record is of the node that is meant; raises NotFoundError."""
        ...


async def start(leader: Leader, name: Named, *, is_forced: bool) -> None:
    """Begin to decommission a node, or find that it has begun; then it goes on by itself.

    Raises:
        NotFoundError: there is no such node.
        FailedPreconditionError: it cannot leave; the remedy says the safe order.
        UnavailableError: the leader does not know enough yet to tell.
    """
    async with leader.membership_lock:
        await retry_conflicts(lambda: _start(leader, name, is_forced=is_forced))
    leader.retiring.wake.set()


async def _start(leader: Leader, name: Named, *, is_forced: bool) -> None:
    record = await leader.load(name.node_id)
    name.check(record)
    node_id = record.node_id
    advance(node_id, record.state, NodeEvent.DECOMMISSION)
    found = (await leader.store.read(Get(keys.decommission(node_id)))).one(0)
    if found is not None:
        begun = decommissions.decode(found)
        if is_forced and not begun.message.forced and begun.step is not Step.DONE:
            forced = begun.changed(is_forced=True)
            await leader.commit(decommissions.to_change(forced, "forced its decommission"))
            leader.log.warning("Node %s: its decommission is forced from now on", node_id)
        return
    _check_hearing(leader, node_id, is_forced=is_forced)
    problem = planner.quorum_without(await leader.members.all(), node_id, _hearing_all(leader))
    if problem is not None:
        kind = UnavailableError if problem.may_pass else FailedPreconditionError
        raise kind(problem.text, remedy=problem.remedy)
    is_retired = record.state is NodeState.DECOMMISSIONED  # by whom, nobody wrote down
    step = Step.REMOVE_MEMBER if is_retired else Step.DRAIN_KUBERNETES
    begun = decommissions.begin(node_id, is_forced=is_forced, step=step)
    still = Change(compares=(is_unchanged(keys.node(node_id), record.mod_revision),))
    said = "began its decommission" + (", forced" if is_forced else "")
    await leader.commit(decommissions.to_change(begun, said) + still)
    leader.log.info("Node %s: its decommission begins", node_id)


def _check_hearing(leader: Leader, node_id: NodeId, *, is_forced: bool) -> None:
    hearing = _hearing(leader, node_id)
    if is_forced or hearing is Hearing.HEARD:
        return
    if hearing is Hearing.UNKNOWN:
        raise UnavailableError(
            f"the leader is new and has not heard node {node_id} yet",
            remedy="Retry in 15 seconds.",
        )
    raise FailedPreconditionError(
        f"node {node_id} cannot be reached, so it cannot wipe itself",
        remedy="Switch it on, or pass --force to go on without: its disk keeps what is on it.",
    )


async def keep_retiring(leader: Leader) -> None:
    """Go on with every decommission, for as long as this node leads."""
    while True:
        leader.retiring.wake.clear()
        pause_s: float | None = RETRY_S
        try:
            pause_s = POLL_S if await retire_all(leader) else None
        except NotLeaderError:
            pass  # the tenure is about to end
        except MetropolisError as error:
            leader.log.warning("Cannot go on with decommissions: %s", chain(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await leader.retiring.wake.wait()


async def retire_all(leader: Leader) -> bool:
    """Go as far as possible with every decommission; tell whether one is left to go on with."""
    stored = (await leader.store.read(Get(keys.DECOMMISSIONS, is_prefix=True))).ranges[0]
    found = decommissions.decode_all(stored)
    for record in found:
        leader.retiring.adopt(record)
    leader.retiring.is_loaded = True
    is_any_left = False
    for record in found:
        try:
            is_any_left |= not await _retire(leader, record.node_id)
        except NotLeaderError:
            raise
        except MetropolisError as error:
            is_any_left = True
            sentence = f"Trying again: {chain(error)}"
            said = Said(step=record.step, sentence=sentence, is_waiting=True)
            if leader.retiring.say(record.node_id, said):
                leader.log.warning("Node %s: %s", record.node_id, sentence)
    return is_any_left


async def _retire(leader: Leader, node_id: NodeId) -> bool:
    """Take steps until one has to wait; tell whether the last one is done."""
    while True:
        try:
            move = await take_step(leader, node_id)
        except ConflictError:
            continue  # somebody else changed a record: look again
        if move is None or move.then is Step.DONE:
            return True
        if move.work is Work.WAIT:
            return False


async def take_step(leader: Leader, node_id: NodeId) -> Move | None:
    """Do the next thing for one node, once; None when it is not being decommissioned."""
    async with leader.membership_lock:
        snapshot = await leader.store.read(Get(keys.decommission(node_id)))
        stored = snapshot.one(0)
        if stored is None:
            leader.retiring.forget(node_id)
            return None
        begun = decommissions.decode(stored)
        leader.retiring.adopt(begun)
        if begun.step is Step.DONE:
            _say(leader, begun, Said(step=Step.DONE, sentence=summary(begun)))
            return planner.plan(Facts(node_id=node_id, step=Step.DONE))
        record = await leader.find(node_id)
        if record is None:
            await leader.commit(decommissions.removal(node_id))
            leader.retiring.forget(node_id)
            return None
        members = await leader.members.all()
        move = planner.plan(await _facts(leader, record, begun, members))
        is_waiting = move.work is Work.WAIT
        _say(leader, begun, Said(step=begun.step, sentence=move.sentence, is_waiting=is_waiting))
        await _carry_out(leader, record, begun, move, members)
        return move


def summary(begun: Decommission) -> str:
    """Say how a decommission ended."""
    wiped = "its machine is wiped" if begun.message.wiped else "its machine was never wiped"
    return f"The node is out of service and {wiped}."


def _say(leader: Leader, begun: Decommission, said: Said) -> None:
    if leader.retiring.say(begun.node_id, said) and said.step is not Step.DONE:
        leader.log.info("Node %s, %s: %s", begun.node_id, said.step.name, said.sentence)


async def _facts(
    leader: Leader, record: NodeRecord, begun: Decommission, members: Sequence[Member]
) -> Facts:
    hearing = _hearing_all(leader)
    problem = planner.quorum_without(members, record.node_id, hearing)
    unscrubbed: dict[str, Hearing] | None = None
    if begun.message.scrub_order:
        answers = await _scrub_answers(leader)
        unscrubbed = {
            name: hearing.get(name, Hearing.SILENT)
            for name in sorted(member_node_id(member) for member in members if _votes(member))
            if answers.get(keys.scrub_answer(name), 0) < begun.message.scrub_order
        }
    return Facts(
        node_id=record.node_id,
        step=begun.step,
        is_forced=begun.message.forced,
        state=record.state,
        roles=record.roles,
        is_leader=record.node_id == leader.own.node_id,
        is_member=find_member(members, record.node_id) is not None,
        quorum_problem="" if problem is None else problem.text,
        hearing=_hearing(leader, record.node_id),
        has_accepted=bool(begun.message.farewell_public_key),
        is_wiped=begun.message.wiped,
        unscrubbed=unscrubbed,
    )


async def _scrub_answers(leader: Leader) -> dict[bytes, int]:
    found = (await leader.store.read(Get(keys.SCRUB, is_prefix=True))).ranges[0]
    return {item.key: read_order(item.value) for item in found}


def _votes(member: Member) -> bool:
    return not member.is_learner


def _hearing(leader: Leader, node_id: str) -> Hearing:
    if node_id == leader.own.node_id:
        return Hearing.HEARD
    health = judge(NodeState.UP, leader.heartbeats.pulse(node_id))
    if health == Node.HEALTH_HEALTHY:
        return Hearing.HEARD
    return Hearing.UNKNOWN if health == Node.HEALTH_UNKNOWN else Hearing.SILENT


def _hearing_all(leader: Leader) -> dict[str, Hearing]:
    return {record.node_id: _hearing(leader, record.node_id) for record in leader.nodes.all()}


async def _carry_out(
    leader: Leader,
    record: NodeRecord,
    begun: Decommission,
    move: Move,
    members: Sequence[Member],
) -> None:
    """Do what a move says. What is outside the store comes before what is written."""
    after = begun.changed(step=move.then)
    match move.work:
        case Work.WAIT:
            return
        case Work.ADVANCE:
            await leader.commit(decommissions.to_change(after))
        case Work.HAND_OVER:
            await leader.hand_over()
        case Work.TAKE_KUBERNETES:
            roles = Roles(consensus_member=record.roles.consensus_member)
            await leader.save(record.with_roles(roles, None), decommissions.to_change(after))
        case Work.TAKE_CONSENSUS | Work.REMOVE_MEMBER:
            await _remove_member(leader, record, after, members)
        case Work.ORDER_WIPE:
            state = advance(record.node_id, record.state, NodeEvent.DECOMMISSION)
            await leader.save(record.in_state(state), decommissions.to_change(after))
        case Work.DELETE_KEYS:
            await _delete_keys(leader, record, after)
        case Work.ORDER_SCRUB:
            await _order_scrub(leader, begun)
        case Work.REVOKE:
            await _revoke(leader, record, after)


async def _remove_member(
    leader: Leader, record: NodeRecord, after: Decommission, members: Sequence[Member]
) -> None:
    own = find_member(members, record.node_id)
    if own is not None:
        await leader.members.remove(own.member_id)
    revocation = await leader.members.revocation(record.node_id)
    roles = Roles(kubernetes_worker=record.roles.kubernetes_worker)
    await leader.save(record.with_roles(roles, None), decommissions.to_change(after) + revocation)


async def _delete_keys(leader: Leader, record: NodeRecord, after: Decommission) -> None:
    """Forget the secrets. Its own certificate follows when it is on the list of revoked ones."""
    deletions = [Delete(pki.CONSENSUS.certificate(record.node_id))]
    if record.message.join_key:
        deletions.append(Delete(keys.join_key(record.message.join_key)))
    also = decommissions.to_change(after) + Change(operations=tuple(deletions))
    await leader.save(record.without_keys(), also)


async def _order_scrub(leader: Leader, begun: Decommission) -> None:
    """Give an order that is newer than every one before; the deletion lies before it."""
    found: KeyValue | None = (await leader.store.read(Get(keys.SCRUB_ORDER))).one(0)
    order = read_order(None if found is None else found.value) + 1
    given = ScrubRecord(order=order).SerializeToString(deterministic=True)
    change = Change(
        compares=(is_unchanged(keys.SCRUB_ORDER, found.mod_revision if found else 0),),
        operations=(Put(keys.SCRUB_ORDER, given),),
    )
    await leader.commit(decommissions.to_change(begun.changed(scrub_order=order)) + change)


async def _revoke(leader: Leader, record: NodeRecord, after: Decommission) -> None:
    try:
        revocation = await leader.pki.revoke(pki.node_name(record.node_id)) or Change()
    except DataLossError as error:
        leader.log.warning("Node %s: no list of revoked certificates: %s", record.node_id, error)
        revocation = Change()
    still = Change(compares=(is_unchanged(keys.node(record.node_id), record.mod_revision),))
    await leader.commit(decommissions.to_change(after) + revocation + still)
    leader.heartbeats.heard_s.pop(record.node_id, None)
    _say(leader, after, Said(step=Step.DONE, sentence=summary(after)))
    leader.log.info("Node %s: decommissioned", record.node_id)


async def stored_decommission(leader: Leader, node_id: NodeId) -> Decommission:
    """Read how far the decommission of a node has come.

    Raises:
        NotFoundError: it is not being decommissioned.
    """
    found = (await leader.store.read(Get(keys.decommission(node_id)))).one(0)
    if found is None:
        raise NotFoundError(
            f"node {node_id} is not being decommissioned",
            remedy="List the nodes with `metroctl node list`.",
        )
    return decommissions.decode(found)
