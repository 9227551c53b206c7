# SPDX-License-Identifier: Apache-2.0
"""Management: what operators do to the cluster and its nodes; listing them is in `nodes`."""

from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    ApproveNodeResponse,
    ConfigureClusterRequest,
    ConfigureClusterResponse,
    DeleteNodeRequest,
    DeleteNodeResponse,
    GetClusterInfoRequest,
    GetClusterInfoResponse,
    GetRegisterTicketRequest,
    GetRegisterTicketResponse,
    UpdateNodeLabelsRequest,
    UpdateNodeLabelsResponse,
    UpdateNodeRolesRequest,
    UpdateNodeRolesResponse,
)
from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeEvent, advance
from metropolis.cluster.planner import labels, reconfigure
from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.planner.directory import Candidate, directory
from metropolis.cluster.planner.roles import (
    ConsensusStep,
    RolePlan,
    RoleRequest,
    check_quorum_without,
    find_member,
    plan,
)
from metropolis.cluster.services.callers import NodeName, check_public_key, named_node
from metropolis.cluster.state import decommissions, keys, pki
from metropolis.cluster.state.decommissions import Decommission
from metropolis.cluster.state.fenced import (
    Change,
    is_absent,
    is_unchanged,
    retry_conflicts,
)
from metropolis.cluster.state.records import NodeRecord
from metropolis.consensus.store import Delete, Get, Member, Put
from metropolis.pki.tickets import RegisterTicket
from metropolis.rpc.peer import Peer


async def get_register_ticket(
    leader: Leader, _request: GetRegisterTicketRequest, _peer: Peer
) -> GetRegisterTicketResponse:
    """Return the ticket; the first call makes it."""

    async def attempt() -> bytes:
        found = (await leader.store.read(Get(keys.REGISTER_TICKET))).one(0)
        if found is not None:
            return found.value
        ticket = RegisterTicket.generate(leader.own.entropy).to_wire()
        change = Change(
            compares=(is_absent(keys.REGISTER_TICKET),),
            operations=(Put(keys.REGISTER_TICKET, ticket),),
            sentence="made the register ticket",
        )
        await leader.store.write(change)
        leader.log.info("Made the register ticket")
        return ticket

    return GetRegisterTicketResponse(ticket=await retry_conflicts(attempt))


async def get_cluster_info(
    leader: Leader, _request: GetClusterInfoRequest, _peer: Peer
) -> GetClusterInfoResponse:
    """Return directory, CA and configuration; the latter only if it can be read."""
    nodes = (await leader.confirmed()).all()
    response = GetClusterInfoResponse(
        cluster_directory=directory(
            Candidate(
                node_id=record.node_id,
                public_key=record.public_key,
                state=record.state,
                external_address=record.external_address,
            )
            for record in nodes
        ),
        ca_certificate=leader.own.ca_certificate,
    )
    try:
        configuration, _revision = await leader.configuration()
    except (DataLossError, FailedPreconditionError) as error:
        leader.log.warning("Answering without a configuration: %s. %s", error, error.remedy)
    else:
        response.cluster_configuration.CopyFrom(configuration)
    return response


async def approve_node(
    leader: Leader, request: ApproveNodeRequest, _peer: Peer
) -> ApproveNodeResponse:
    """Let a NEW node commit."""
    key = check_public_key(request.pubkey)
    name = NodeName(node_id=node_id_from_public_key(key), public_key=key)

    async def approve(record: NodeRecord) -> NodeRecord:
        name.check(record)
        state = advance(record.node_id, record.state, NodeEvent.APPROVE)
        if state is record.state:
            return record
        leader.log.info("Node %s: %s => %s", record.node_id, record.state.name, state.name)
        return record.in_state(state)

    await leader.update(name.node_id, approve, sentence="approved: NEW => STANDBY")
    return ApproveNodeResponse()


async def update_node_labels(
    leader: Leader, request: UpdateNodeLabelsRequest, _peer: Peer
) -> UpdateNodeLabelsResponse:
    """Set and delete labels, all or none."""
    name = named_node(request)
    upserts = [(pair.key, pair.value) for pair in request.upsert]
    labels.check_changes(upserts, request.delete)

    async def relabel(record: NodeRecord) -> NodeRecord:
        name.check(record)
        after = labels.updated(record.labels, upserts, request.delete)
        return record if after == record.labels else record.with_labels(after)

    await leader.update(name.node_id, relabel, sentence=labels.said(upserts, request.delete))
    return UpdateNodeLabelsResponse()


async def update_node_roles(
    leader: Leader, request: UpdateNodeRolesRequest, _peer: Peer
) -> UpdateNodeRolesResponse:
    """Give and take roles: everything is checked, then the consensus changes, then the record."""
    name = named_node(request)
    wanted = RoleRequest(
        consensus_member=_optional(request, "consensus_member"),
        kubernetes_controller=_optional(request, "kubernetes_controller"),
        kubernetes_worker=_optional(request, "kubernetes_worker"),
    )
    async with leader.membership_lock:
        await retry_conflicts(lambda: _update_roles(leader, name, wanted))
    return UpdateNodeRolesResponse()


def _optional(request: UpdateNodeRolesRequest, field: str) -> bool | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # the three above
        return None
    return bool(getattr(request, field))


async def _update_roles(leader: Leader, name: NodeName, wanted: RoleRequest) -> None:
    record = await leader.load(name.node_id)
    name.check(record)
    gains = (wanted.consensus_member, wanted.kubernetes_controller, wanted.kubernetes_worker)
    if any(gains) and await _is_leaving(leader, record) is not None:
        raise FailedPreconditionError(
            f"node {record.node_id} is being decommissioned and gets no new roles",
            remedy="Choose a node that stays in service.",
        )
    members: list[Member] = []
    if wanted.consensus_member is not None:
        members = list(await leader.members.all())
    decided = plan(
        node_id=record.node_id,
        state=record.state,
        roles=record.roles,
        request=wanted,
        members=members,
    )
    await _carry_out(leader, record, decided, members)


async def _is_leaving(leader: Leader, record: NodeRecord) -> Decommission | None:
    """Return the record of a decommission that is not done; None when there is none."""
    found = (await leader.store.read(Get(keys.decommission(record.node_id)))).one(0)
    if found is None:
        return None
    begun = decommissions.decode(found)
    return None if begun.step is Step.DONE else begun


async def _carry_out(
    leader: Leader, record: NodeRecord, decided: RolePlan, members: list[Member]
) -> None:
    node_id, told, also = record.node_id, None, Change()
    match decided.step:
        case ConsensusStep.ADD:
            told = await leader.members.add(record)
        case ConsensusStep.REFRESH:
            told = await leader.members.invitation(record, members)
        case ConsensusStep.REMOVE:
            own = find_member(members, node_id)
            assert own is not None, "only members are removed"
            await leader.members.remove(own.member_id)
            also = await leader.members.revocation(node_id)
        case ConsensusStep.NOTHING:
            if decided.roles == record.roles:
                return
    said = Change(sentence=decided.sentence)
    await leader.save(record.with_roles(decided.roles, told), said + also)
    leader.log.info("%s", decided.sentence)


async def delete_node(
    leader: Leader, request: DeleteNodeRequest, _peer: Peer
) -> DeleteNodeResponse:
    """Forget a node; its certificates are refused from then on."""
    name = named_node(request)
    async with leader.membership_lock:
        await retry_conflicts(lambda: _delete(leader, name, request))
    return DeleteNodeResponse()


async def _delete(leader: Leader, name: NodeName, request: DeleteNodeRequest) -> None:
    try:
        record = await leader.load(name.node_id)
    except DataLossError:
        await _delete_damaged(leader, name, request)
        return
    name.check(record)
    node_id = record.node_id
    held = record.roles.names
    if held and not request.HasField("safety_bypass_has_roles"):
        raise FailedPreconditionError(
            f"node {node_id} still has the role {held[0]}",
            remedy=f"Run `metroctl node remove role {held[0]} {node_id}`, or pass "
            "--bypass-has-roles to delete it anyway.",
        )
    is_forced = request.HasField("safety_bypass_not_decommissioned")
    if not is_forced:
        leaving = await _is_leaving(leader, record)
        if leaving is not None:
            raise FailedPreconditionError(
                f"node {node_id} is still being decommissioned ({leaving.step.name})",
                remedy=f"Wait for the end with `metroctl node decommission {node_id}`, or pass "
                "--bypass-not-decommissioned; its keys then stay in the store's history.",
            )
    advance(node_id, record.state, NodeEvent.DELETE_ANYWAY if is_forced else NodeEvent.DELETE)
    if node_id == leader.own.node_id:
        raise FailedPreconditionError(
            f"node {node_id} leads the cluster and cannot delete itself",
            remedy=f"Run `metroctl node remove role ConsensusMember {node_id}` first; "
            "another node leads then.",
        )
    members = await leader.members.all()
    own = find_member(members, node_id)
    if own is not None:
        check_quorum_without(members, own)
        await leader.members.remove(own.member_id)
    certificate = pki.CLUSTER.certificate(pki.node_name(node_id))
    key = keys.node(node_id)
    removal = Change(
        compares=(is_unchanged(key, record.mod_revision),),
        operations=(
            Delete(key),
            *(Delete(keys.join_key(each)) for each in (record.message.join_key,) if each),
            Delete(certificate),
        ),
        sentence=f"deleted when {record.state.name}",
    )
    also = decommissions.removal(node_id) + await leader.members.revocation(node_id)
    await leader.commit(removal + also)
    leader.heartbeats.heard_s.pop(node_id, None)
    leader.retiring.forget(node_id)
    leader.doubles.forget(node_id)
    leader.log.info("Node %s: deleted when %s", node_id, record.state.name)


async def _delete_damaged(leader: Leader, name: NodeName, request: DeleteNodeRequest) -> None:
    """Forget a record that cannot be read, if the caller passes over everything it may say."""
    if not (
        request.HasField("safety_bypass_has_roles")
        and request.HasField("safety_bypass_not_decommissioned")
    ):
        raise FailedPreconditionError(
            f"the record of node {name.node_id} is damaged: its state and roles are unknown",
            remedy="Pass --bypass-has-roles and --bypass-not-decommissioned to delete it anyway.",
        )
    certificate = pki.CLUSTER.certificate(pki.node_name(name.node_id))
    operations = (Delete(keys.node(name.node_id)), Delete(certificate))
    await leader.commit(
        Change(operations=operations, sentence="deleted although its record was damaged")
    )
    leader.log.warning("Node %s: deleted although its record was damaged", name.node_id)


async def configure_cluster(
    leader: Leader, request: ConfigureClusterRequest, _peer: Peer
) -> ConfigureClusterResponse:
    """Change the masked fields of the configuration."""

    async def attempt() -> ConfigureClusterResponse:
        current, revision = await leader.configuration()
        merged = reconfigure.merge(
            current,
            base=request.base_config if request.HasField("base_config") else None,
            new=request.new_config if request.HasField("new_config") else None,
            mask=request.update_mask if request.HasField("update_mask") else None,
        )
        if merged != current:
            change = Change(
                compares=(is_unchanged(keys.CONFIGURATION, revision),),
                operations=(Put(keys.CONFIGURATION, merged.SerializeToString(deterministic=True)),),
                sentence=f"changed {', '.join(request.update_mask.paths)}",
            )
            await leader.store.write(change)
            leader.log.info("Configuration changed: %s", ", ".join(request.update_mask.paths))
        return ConfigureClusterResponse(resulting_config=merged)

    return await retry_conflicts(attempt)
