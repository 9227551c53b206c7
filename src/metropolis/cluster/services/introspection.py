# SPDX-License-Identifier: Apache-2.0
"""Introspection.ExplainNode, as far as the leader knows."""

import asyncio
from collections.abc import Sequence

from metropolis.api.introspection_pb2 import (
    ExplainNodeRequest,
    ExplainNodeResponse,
    Finding,
)
from metropolis.base.errors import MetropolisError, NotFoundError
from metropolis.base.ids import NodeId, parse_node_id
from metropolis.cluster.auditor import REMEDY as AUDIT_REMEDY
from metropolis.cluster.doubles import REMEDY as TWO_MACHINES_REMEDY
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.planner.explain import Subject, explain
from metropolis.cluster.planner.health import NEVER_NS
from metropolis.cluster.retire import stored_decommission, summary
from metropolis.cluster.services.nodes import shown_node
from metropolis.cluster.state.records import NodeRecord
from metropolis.rpc.peer import Peer


async def explain_node(
    leader: Leader, request: ExplainNodeRequest, _peer: Peer
) -> ExplainNodeResponse:
    """Say what keeps a node from being ready; without an id, of the leader itself."""
    node_id = parse_node_id(request.node_id) if request.node_id else leader.own.node_id
    record = (await leader.confirmed()).get(node_id)
    if record is None:
        raise NotFoundError(
            f"no such node: {node_id}", remedy="List the nodes with `metroctl node list`."
        )
    shown = shown_node(leader, record)
    silence_ns = leader.heartbeats.pulse(node_id).silence_ns
    leaving, retired = await _decommission(leader, node_id)
    subject = Subject(
        node_id=node_id,
        state=record.state,
        health=shown.health,
        silence_s=None if silence_ns == NEVER_NS else silence_ns / 1e9,
        has_status=record.message.HasField("status"),
        roles=record.roles,
        leaving=leaving,
        retired=retired,
    )
    try:
        members = await leader.members.all()
    except MetropolisError:
        members = None
    findings = [
        *_two_machines(leader, node_id),
        *explain(subject, members),
        *_cluster_wide(leader, record),
    ]
    return ExplainNodeResponse(node=shown, findings=findings)


def _two_machines(leader: Leader, node_id: NodeId) -> Sequence[Finding]:
    what = leader.doubles.alarm(node_id, now_s=asyncio.get_running_loop().time())
    if not what:
        return ()
    return (
        Finding(
            code="TWO_MACHINES",
            summary=f"Two machines are this node at the same time: {what}.",
            remedy=TWO_MACHINES_REMEDY.format(node_id=node_id),
            severity=Finding.SEVERITY_ERROR,
        ),
    )


def _cluster_wide(leader: Leader, record: NodeRecord) -> Sequence[Finding]:
    """List what is wrong with the state that all consensus members hold."""
    if not (leader.auditor.problem and record.roles.consensus_member):
        return ()
    return (
        Finding(
            code="AUDIT_LOG_BROKEN",
            summary=f"The audit log is not what was written: {leader.auditor.problem}.",
            remedy=AUDIT_REMEDY,
            severity=Finding.SEVERITY_WARNING,
        ),
    )


async def _decommission(leader: Leader, node_id: NodeId) -> tuple[str, str]:
    """Return where a decommission stands, and how it ended; empty texts where it did not."""
    try:
        begun = await stored_decommission(leader, node_id)
    except NotFoundError:
        return "", ""
    if begun.step is Step.DONE:
        return "", summary(begun)
    lately = leader.retiring.said(node_id).current
    return f"{begun.step.name}: {lately[-1].sentence if lately else 'going on.'}", ""
