# SPDX-License-Identifier: Apache-2.0
"""How a machine becomes a member, and how a member comes back. Every call may be repeated.

RegisterNode   ticket, join key        -> NEW                  the node key is the connection's
CommitNode     cluster unlock key      STANDBY -> UP           certificate and state, at once
JoinNode       join key                UP: its unlock key      the join key is the connection's
"""

import hmac
from dataclasses import dataclass
from typing import Final

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.curator_pb2 import (
    CommitNodeRequest,
    CommitNodeResponse,
    JoinNodeRequest,
    JoinNodeResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from metropolis.base.ids import node_id_from_public_key, parse_node_id
from metropolis.cluster.leader import Leader, read_configuration
from metropolis.cluster.lifecycle import NodeEvent, NodeState, advance
from metropolis.cluster.planner import labels, storage, tpm
from metropolis.cluster.services.callers import check_public_key, proven_key
from metropolis.cluster.state import keys, pki, records
from metropolis.cluster.state.fenced import (
    Change,
    is_unchanged,
    retry_conflicts,
)
from metropolis.cluster.state.records import NodeRecord
from metropolis.consensus.store import Delete, Get, KeyValue, Put
from metropolis.pki.certificates import issue_node
from metropolis.pki.tickets import RegisterTicket
from metropolis.rpc.peer import Peer
from metropolis.rpc.throttle import neighbourhood, too_many

NODES_MAX: Final = 10_000  # whoever holds the ticket can make records; bounded memory everywhere


async def register_node(
    leader: Leader, request: RegisterNodeRequest, peer: Peer
) -> RegisterNodeResponse:
    """Make a record for a machine that shows the ticket, or find the one it made before."""
    node_key = proven_key(peer)
    check_public_key(request.join_key, "join_key")
    record, configuration = await retry_conflicts(
        lambda: _register(leader, node_key, request, neighbourhood(peer.address))
    )
    recommended = storage.recommended(configuration.storage_security_policy)
    return RegisterNodeResponse(
        cluster_configuration=configuration,
        tpm_usage=record.message.tpm_usage,
        recommended_node_storage_security=recommended,
    )


def _check_ticket(leader: Leader, stored: KeyValue | None, shown: bytes, caller: str) -> None:
    """Judge a ticket, unless the caller has shown too many wrong ones lately.

    Raises:
        ThrottledError: it has; whether this one is right is not even looked at.
        PermissionDeniedError: the ticket is wrong.
    """
    now_s = leader.own.clock.monotonic_s()
    wait_s = leader.wrong_tickets.wait_s(caller, now_s=now_s)
    if wait_s:
        raise too_many("wrong tickets", wait_s=wait_s)
    if not _shows_ticket(stored, shown):
        leader.wrong_tickets.take(caller, now_s=now_s)
        raise PermissionDeniedError(
            "registerticket invalid",
            remedy="Make new node parameters with this cluster's ticket; "
            "`metroctl install` fetches it.",
        )


def _shows_ticket(stored: KeyValue | None, shown: bytes) -> bool:
    if stored is None:
        return False
    try:
        return RegisterTicket.from_wire(stored.value).is_shown_by(shown)
    except MetropolisError:
        return False  # a damaged ticket admits nobody


async def _register(
    leader: Leader, node_key: bytes, request: RegisterNodeRequest, caller: str
) -> tuple[NodeRecord, ClusterConfiguration]:
    """Judge and write at one revision of the ticket; it may be replaced at any moment."""
    node_id = node_id_from_public_key(node_key)
    snapshot = await leader.store.read(
        Get(keys.REGISTER_TICKET),
        Get(keys.CONFIGURATION),
        Get(keys.node(node_id)),
        Get(keys.join_key(request.join_key)),
    )
    ticket, stored, indexed = snapshot.one(0), snapshot.one(2), snapshot.one(3)
    if not _repeats(stored, node_key, request):
        _check_ticket(leader, ticket, request.register_ticket, caller)
    configuration = read_configuration(snapshot.one(1))
    usage = tpm.usage_at_enrolment(configuration.tpm_mode, has_tpm=request.have_local_tpm)
    still = Change(
        compares=(is_unchanged(keys.REGISTER_TICKET, ticket.mod_revision if ticket else 0),)
    )
    found = _Found(record=stored, index=indexed, still=still)
    return await _enter(leader, node_key, request, usage, found), configuration


def _repeats(stored: KeyValue | None, node_key: bytes, request: RegisterNodeRequest) -> bool:
    """Tell whether the machine registered with this very request before and has not got further.

    Its ticket was good then. The reply may have been lost, and the ticket replaced meanwhile.
    """
    if stored is None:
        return False
    record = records.decode(stored)
    return (
        record.state in {NodeState.NEW, NodeState.STANDBY}
        and hmac.compare_digest(record.public_key, node_key)
        and hmac.compare_digest(record.message.join_key, request.join_key)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the store holds about a machine. `still` compares what else a write depends on."""

    record: KeyValue | None
    index: KeyValue | None
    still: Change


async def _enter(
    leader: Leader,
    node_key: bytes,
    request: RegisterNodeRequest,
    usage: tpm.Usage,
    found: _Found,
) -> NodeRecord:
    stored, indexed, still = found.record, found.index, found.still
    node_id = node_id_from_public_key(node_key)
    join_index = keys.join_key(request.join_key)
    if indexed is not None and indexed.value != node_id.encode("ascii"):
        raise InvalidArgumentError(
            "join_key is another node's", remedy="Make a new join key for every machine."
        )
    if stored is None:
        record = _new_record(leader, node_key, request, usage)
        also = Change(
            compares=(is_unchanged(join_index, indexed.mod_revision if indexed else 0),),
            operations=(Put(join_index, node_id.encode("ascii")),),
            sentence="registered, waits for approval",
        )
        await leader.save(record, also + still)
        leader.log.info("Node %s registered and waits for approval", node_id)
        return record
    record = records.decode(stored)
    if not hmac.compare_digest(record.public_key, node_key):
        raise FailedPreconditionError(
            f"node {node_id} exists with another key of the same beginning",
            remedy="Install the machine again, so that it makes another key.",
        )
    held = record.message.join_key
    is_same = hmac.compare_digest(held, request.join_key)
    advance(node_id, record.state, NodeEvent.REGISTER_AGAIN if is_same else NodeEvent.REGISTER)
    if record.state is not NodeState.NEW or (is_same and record.message.tpm_usage == usage):
        return record
    renewed = record.with_enrolment(join_key=request.join_key, tpm_usage=usage)
    also = Change(sentence="registered anew")
    if not is_same:
        also += Change(
            compares=(is_unchanged(join_index, indexed.mod_revision if indexed else 0),),
            operations=(
                Delete(keys.join_key(held)),
                Put(join_index, node_id.encode("ascii")),
            ),
        )
    await leader.save(renewed, also + still)
    leader.log.info("Node %s registered anew and waits for approval", node_id)
    return renewed


def _new_record(
    leader: Leader, node_key: bytes, request: RegisterNodeRequest, usage: tpm.Usage
) -> NodeRecord:
    node_id = node_id_from_public_key(node_key)
    if len(leader.nodes) >= NODES_MAX:
        raise ResourceExhaustedError(
            f"the cluster has {NODES_MAX} nodes",
            remedy="Delete nodes that are not needed with `metroctl node delete`.",
        )
    pairs = [(pair.key, pair.value) for pair in request.labels.pairs]
    kept, left_out = labels.at_enrolment(pairs, last_wins=False)
    if left_out:
        leader.log.warning("Left out %d bad labels of node %s", left_out, node_id)
    return (
        records.new_record(
            public_key=node_key, state=advance(node_id, NodeState.ABSENT, NodeEvent.REGISTER)
        )
        .with_enrolment(join_key=request.join_key, tpm_usage=usage)
        .with_labels(kept)
    )


async def commit_node(leader: Leader, request: CommitNodeRequest, peer: Peer) -> CommitNodeResponse:
    """Make an approved machine a member: its key, its certificate and its state, at once."""
    node_key = proven_key(peer)
    security = storage.check_known(request.storage_security)
    return await retry_conflicts(lambda: _commit(leader, node_key, request, security))


async def _commit(
    leader: Leader, node_key: bytes, request: CommitNodeRequest, security: storage.Security
) -> CommitNodeResponse:
    node_id = node_id_from_public_key(node_key)
    snapshot = await leader.store.read(Get(keys.CONFIGURATION), Get(keys.node(node_id)))
    configuration, stored = read_configuration(snapshot.one(0)), snapshot.one(1)
    record = None if stored is None else records.decode(stored)
    if record is not None and not hmac.compare_digest(record.public_key, node_key):
        record = None
    is_repeat = record is not None and _is_repeat(record, request, security)
    if not is_repeat:  # what was accepted once is not judged by a policy that came later
        storage.check_accepted(configuration.storage_security_policy, security)
    event = NodeEvent.COMMIT_AGAIN if is_repeat else NodeEvent.COMMIT
    state = advance(node_id, NodeState.ABSENT if record is None else record.state, event)
    assert record is not None, "nothing commits without a record"
    issued = await leader.pki.issue(
        pki.node_name(node_id),
        node_key,
        lambda authority, serial: issue_node(authority, node_key, serial=serial),
    )
    if not is_repeat:
        kept = storage.kept_unlock_key(security, request.cluster_unlock_key)
        _check_tpm(configuration, record)
        said = Change(sentence=f"committed: {record.state.name} => {state.name}")
        await leader.save(record.with_unlock_key(kept).in_state(state), said + issued.change)
        leader.log.info("Node %s committed: %s => %s", node_id, record.state.name, state.name)
    elif issued.change.operations:
        await leader.commit(issued.change)
    return CommitNodeResponse(
        ca_certificate=leader.own.ca_certificate, node_certificate=issued.certificate
    )


def _is_repeat(record: NodeRecord, request: CommitNodeRequest, security: storage.Security) -> bool:
    if record.state is not NodeState.UP:
        return False
    try:
        kept = storage.kept_unlock_key(security, request.cluster_unlock_key)
    except InvalidArgumentError:
        return False
    return hmac.compare_digest(kept, record.message.cluster_unlock_key)


def _check_tpm(configuration: ClusterConfiguration, record: NodeRecord) -> None:
    tpm.check_commit(configuration.tpm_mode, record.message.tpm_usage)


async def join_node(leader: Leader, request: JoinNodeRequest, peer: Peer) -> JoinNodeResponse:
    """Give a member that started again the cluster's half of its disk key."""
    join_key = proven_key(peer, PermissionDeniedError)
    indexed = (await leader.store.read(Get(keys.join_key(join_key)))).one(0)
    if indexed is None:
        raise NotFoundError(
            "no node has this join key",
            remedy="Install the machine again: its node was deleted, or is of another cluster.",
        )
    node_id = parse_node_id(indexed.value.decode("ascii", errors="replace"))
    record = await leader.load(node_id)
    if not hmac.compare_digest(record.message.join_key, join_key):
        raise NotFoundError(
            "no node has this join key any more", remedy="Install the machine again."
        )
    problem = tpm.join_problem(
        record.message.tpm_usage, is_sealed=request.using_sealed_configuration
    )
    if problem is not None:
        raise problem
    if not leader.retiring.may_say_goodbye(node_id):  # whoever is to wipe itself must get so far
        advance(node_id, record.state, NodeEvent.JOIN)
    handed = Change(sentence="came back and got its half of the disk key", object=node_id)
    await leader.store.write(handed)  # a secret leaves the store
    leader.log.info("Node %s joined", node_id)
    return JoinNodeResponse(cluster_unlock_key=record.message.cluster_unlock_key)
