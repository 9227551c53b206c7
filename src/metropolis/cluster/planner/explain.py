# SPDX-License-Identifier: Apache-2.0
"""Why a node is not ready, from its life cycle, its health and its roles. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from metropolis.api.introspection_pb2 import Finding
from metropolis.api.management_pb2 import Node
from metropolis.base.ids import NodeId
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import Roles, find_member
from metropolis.consensus.store import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the leader knows about a node. `silence_s` is None when it was never heard.

    Attributes:
        leaving: Where its decommission stands; empty when it is not being decommissioned, or is
            done with it.
        retired: How its decommission ended; empty while it has not.
    """

    node_id: NodeId
    state: NodeState
    health: Node.Health.ValueType
    silence_s: float | None
    has_status: bool
    roles: Roles
    leaving: str = ""
    retired: str = ""


def explain(subject: Subject, members: Sequence[Member] | None) -> Sequence[Finding]:
    """List what is not as it should be, worst first.

    Args:
        members: Of the consensus; None when they could not be asked.
    """
    findings = [
        *_leaving(subject),
        *_life_cycle(subject),
        *_health(subject),
        *_roles(subject, members),
    ]
    return sorted(findings, key=lambda finding: -finding.severity)


def _leaving(subject: Subject) -> Sequence[Finding]:
    if not subject.leaving:
        return []
    return [
        Finding(
            code="DECOMMISSIONING",
            summary=f"The node is being taken out of service. {subject.leaving}",
            remedy=f"Follow it with `metroctl node decommission {subject.node_id}`; add --force "
            "if it waits for what will never come back.",
            severity=Finding.SEVERITY_ERROR,
        )
    ]


def _life_cycle(subject: Subject) -> Sequence[Finding]:
    node_id = subject.node_id
    match subject.state:
        case NodeState.NEW:
            return [
                Finding(
                    code="NOT_APPROVED",
                    summary="The machine registered and waits for approval.",
                    remedy=f"Compare its key, then run `metroctl approve {node_id}`.",
                    severity=Finding.SEVERITY_ERROR,
                )
            ]
        case NodeState.STANDBY:
            return [
                Finding(
                    code="NOT_COMMITTED",
                    summary="The node is approved, but the machine has not committed.",
                    remedy="Check that the machine runs and reaches the cluster; it tries every "
                    "second, so nothing else is needed.",
                    severity=Finding.SEVERITY_ERROR,
                )
            ]
        case NodeState.DECOMMISSIONED if subject.leaving:
            return []
        case NodeState.DECOMMISSIONED:
            return [
                Finding(
                    code="DECOMMISSIONED",
                    summary=subject.retired or "The node is out of service for good.",
                    remedy=f"Run `metroctl node delete {node_id}` to forget it.",
                    severity=Finding.SEVERITY_ERROR,
                )
            ]
        case NodeState.UP | NodeState.ABSENT:
            return []


def _health(subject: Subject) -> Sequence[Finding]:
    if subject.state is not NodeState.UP:
        return []
    findings: list[Finding] = []
    if subject.health == Node.HEALTH_HEARTBEAT_TIMEOUT:
        heard = "ever" if subject.silence_s is None else f"for {subject.silence_s:.0f} s"
        findings.append(
            Finding(
                code="HEARTBEAT_TIMEOUT",
                summary=f"No heartbeat was heard {heard}.",
                remedy="Check that the machine is on and reaches port 7835 of the control plane; "
                f"read `metroctl node logs {subject.node_id}` if it answers, and its console if it "
                "does not: a node whose disk does not open says there what changed.",
                severity=Finding.SEVERITY_ERROR,
            )
        )
    elif subject.health == Node.HEALTH_UNKNOWN:
        findings.append(
            Finding(
                code="HEALTH_UNKNOWN",
                summary="The leader is new and has not heard the node yet.",
                remedy="Ask again in a minute: until then nodes are still coming back to it.",
                severity=Finding.SEVERITY_WARNING,
            )
        )
    if not subject.has_status:
        findings.append(
            Finding(
                code="NO_STATUS",
                summary="The node has never reported its address and version.",
                remedy=f"Read `metroctl node logs {subject.node_id}` for the cause.",
                severity=Finding.SEVERITY_WARNING,
            )
        )
    return findings


def _roles(subject: Subject, members: Sequence[Member] | None) -> Sequence[Finding]:
    findings: list[Finding] = []
    kubernetes = [name for name in subject.roles.names if name.startswith("Kubernetes")]
    if kubernetes:
        findings.append(
            Finding(
                code="ROLE_NOT_IN_THIS_BUILD",
                summary=f"{' and '.join(kubernetes)}: stored, but not in this build.",
                remedy="Nothing to do; the role takes effect with a build that has Kubernetes.",
                severity=Finding.SEVERITY_INFO,
            )
        )
    if not subject.roles.consensus_member or members is None:
        return findings
    member = find_member(members, subject.node_id)
    if member is None:
        findings.append(
            Finding(
                code="ROLE_WITHOUT_MEMBER",
                summary="The node has ConsensusMember, but is no member of the consensus.",
                remedy="Wait 5 seconds: the leader brings the two together.",
                severity=Finding.SEVERITY_ERROR,
            )
        )
    elif not member.has_started:
        findings.append(
            Finding(
                code="MEMBER_NOT_STARTED",
                summary="The node is to be a consensus member and has not started one yet.",
                remedy="Check that the node is UP and HEALTHY; it starts by itself.",
                severity=Finding.SEVERITY_ERROR,
            )
        )
    elif member.is_learner:
        findings.append(
            Finding(
                code="MEMBER_IS_LEARNER",
                summary="The consensus member is catching up and does not vote yet.",
                remedy="Wait: it is promoted by itself.",
                severity=Finding.SEVERITY_WARNING,
            )
        )
    return findings
