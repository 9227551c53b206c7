# SPDX-License-Identifier: Apache-2.0
"""Why a node is as it is: what the leader finds, and what fails on the node itself.

Order of blame: what the leader says of the life cycle and the roles, then runnables that failed,
then those that were stopped because of them, then those that are still starting; within each kind
the deepest first, because a parent waits for its children.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from metropolis.api import introspection_pb2 as wire
from metropolis.api.common_pb2 import NODE_STATE_UP
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import MetropolisError, UnimplementedError
from metropolis.ctl import tables
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of, node_document
from metropolis.ctl.text_table import visible

_STARTING_S: Final = 10  # a runnable may take that long to become healthy without being blamed
_State = wire.RunnableStatus
_BLAME: Final = (_State.STATE_DEAD, _State.STATE_CANCELED, _State.STATE_NEW)
_WORDS: Final = {
    _State.STATE_DEAD: "failed",
    _State.STATE_CANCELED: "is being stopped",
    _State.STATE_NEW: "is still starting",
}
_SEVERITIES: Final = {
    wire.Finding.SEVERITY_ERROR: "error",
    wire.Finding.SEVERITY_WARNING: "warning",
    wire.Finding.SEVERITY_INFO: "info",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that is to blame.

    Attributes:
        node: As the cluster knows it.
        findings: Worst first.
        runnables: Of the node, those to blame first; empty when all are well.
    """

    node: Node
    findings: Sequence[wire.Finding]
    runnables: Sequence[wire.RunnableStatus]

    @property
    def is_ready(self) -> bool:
        """Whether nothing keeps the node from doing its work."""
        errors = [each for each in self.findings if each.severity == wire.Finding.SEVERITY_ERROR]
        return not errors and not self.runnables and self.node.health == Node.HEALTH_HEALTHY


async def explain(cluster: Cluster, node: Node) -> Explanation:
    """Ask the leader and the node itself.

    Raises:
        MetropolisError: the leader cannot be asked. A node that does not answer is a finding.
    """
    findings: list[wire.Finding] = []
    try:
        response = await cluster.channel.call(
            Introspection.EXPLAIN_NODE,
            wire.ExplainNodeRequest(node_id=node.id),
            timeout_s=cluster.timeout_s,
        )
        findings += response.findings
    except UnimplementedError:
        findings.append(
            _finding("NO_EXPLANATION", "The cluster does not explain its nodes.", "Update it.")
        )
    runnables: Sequence[wire.RunnableStatus] = []
    if node.status.external_address:
        try:
            said = await _tree(cluster, node)
            runnables = blame(said.entries)
            findings += said.findings
        except UnimplementedError:
            pass  # not one of ours
        except MetropolisError as error:
            findings.append(_unreachable(error))
    findings.sort(key=lambda finding: -finding.severity)
    return Explanation(node=node, findings=findings, runnables=runnables)


async def _tree(cluster: Cluster, node: Node) -> wire.GetSupervisionTreeResponse:
    async with cluster.dial_node(node) as channel:
        return await channel.call(
            Introspection.GET_SUPERVISION_TREE,
            wire.GetSupervisionTreeRequest(),
            timeout_s=cluster.timeout_s,
        )


def blame(entries: Sequence[wire.RunnableStatus]) -> Sequence[wire.RunnableStatus]:
    """Return the runnables that are to blame, the first cause first. Pure."""
    blamed = [
        entry
        for entry in entries
        if entry.state in _BLAME
        and (entry.state != _State.STATE_NEW or entry.time_in_state.seconds >= _STARTING_S)
    ]
    return sorted(
        blamed, key=lambda entry: (_BLAME.index(entry.state), -entry.dn.count("."), entry.dn)
    )


def text_of(explanation: Explanation) -> str:
    """Render an explanation for people. Pure."""
    node = explanation.node
    lines = [
        f"Node {node.id} is {tables.state_text(node)} and {tables.health_text(node)}",
        f"  address    {node.status.external_address or 'unknown'}",
        f"  roles      {', '.join(tables.role_names(node.roles)) or 'none'}",
        f"  heartbeat  {tables.heartbeat_text(node)}",
    ]
    for finding in explanation.findings:
        severity = _SEVERITIES.get(finding.severity, "info")
        summary = visible(f"{severity}: {finding.summary} [{finding.code}]")
        lines += ["", summary, f"  {visible(finding.remedy)}"]
    if explanation.runnables:
        lines += ["", "Runnables of this node, the first cause first:"]
        lines += [f"  {visible(runnable_text(entry))}" for entry in explanation.runnables]
    if explanation.is_ready:
        lines += ["", "Nothing keeps it from doing its work."]
    elif not explanation.findings and not explanation.runnables and node.state == NODE_STATE_UP:
        lines += ["", "No cause is known; read `metroctl node logs " + node.id + "`."]
    return "\n".join(lines) + "\n"


def runnable_text(entry: wire.RunnableStatus) -> str:
    """Render a runnable that is to blame on one line. Pure."""
    text = f"{entry.dn} {_WORDS.get(entry.state, 'is well')}"
    text += f" for {entry.time_in_state.seconds} s"
    if entry.restarts:
        text += f", {entry.restarts} restarts"
    if entry.HasField("backoff_remaining"):
        text += f", next try in {entry.backoff_remaining.seconds} s"
    return f"{text}: {entry.reason}" if entry.reason else text


def document(explanation: Explanation) -> dict[str, Any]:
    """Convert an explanation for JSON and YAML. Pure."""
    return {
        "node": node_document(explanation.node),
        "is_ready": explanation.is_ready,
        "findings": [document_of(finding) for finding in explanation.findings],
        "runnables": [document_of(entry) for entry in explanation.runnables],
    }


def _unreachable(error: MetropolisError) -> wire.Finding:
    finding = _finding(
        "NODE_UNREACHABLE", f"The node itself does not answer: {error}", error.remedy
    )
    finding.severity = wire.Finding.SEVERITY_WARNING
    return finding


def _finding(code: str, summary: str, remedy: str) -> wire.Finding:
    return wire.Finding(
        code=code, summary=summary, remedy=remedy, severity=wire.Finding.SEVERITY_INFO
    )
