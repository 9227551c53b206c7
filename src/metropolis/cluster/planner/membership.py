# SPDX-License-Identifier: Apache-2.0
"""How roles and the members of the consensus are brought together. Pure.

The member list is the truth, the role follows it. At most one change per pass: the next pass sees
what the change did. A leader that does not find itself acts on nothing, since what it sees is not
the cluster it leads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from metropolis.base.ids import NodeId
from metropolis.cluster.planner.roles import Roles, find_member, member_node_id
from metropolis.consensus.store import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A record as this planner sees it.

    Attributes:
        is_current: What the record tells the node about the consensus (CRL, and before its first
            start the peers) is what it would be told now. True for nodes without the role.
    """

    node_id: NodeId
    roles: Roles
    is_current: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember:
    """A member has no record: its node was deleted."""

    member_id: int
    node_id: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRole:
    """A member lacks its role."""

    node_id: NodeId
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRoles:
    """A node holds roles that only a member may hold."""

    node_id: NodeId
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """A member's record tells it something outdated."""

    node_id: NodeId
    sentence: str


Change = RemoveMember | AddRole | DropRoles | Refresh


def plan(
    *, leader_id: NodeId, nodes: Sequence[NodeView], members: Sequence[Member]
) -> Change | None:
    """Return the next change, or None when roles and members agree (or nothing may be done)."""
    by_id = {node.node_id: node for node in nodes}
    if leader_id not in by_id or find_member(members, leader_id) is None:
        return None
    for member in sorted(members, key=lambda member: member.member_id):
        name = member_node_id(member)
        if name not in by_id and _may_leave(members, member):
            return RemoveMember(
                member_id=member.member_id,
                node_id=name,
                sentence=f"Removing {name or 'a nameless member'} from the consensus: "
                "there is no such node",
            )
    for node in sorted(nodes, key=lambda node: node.node_id):
        is_member = find_member(members, node.node_id) is not None
        if is_member and not node.roles.consensus_member:
            return AddRole(
                node_id=node.node_id,
                sentence=f"Giving ConsensusMember to {node.node_id}: it is a member",
            )
        if not is_member and (node.roles.consensus_member or node.roles.kubernetes_controller):
            return DropRoles(
                node_id=node.node_id,
                sentence=f"Taking the control plane's roles from {node.node_id}: "
                "it is no member of the consensus",
            )
    for node in sorted(nodes, key=lambda node: node.node_id):
        if not node.is_current:
            return Refresh(
                node_id=node.node_id,
                sentence=f"Renewing what {node.node_id} is told about the consensus",
            )
    return None


def _may_leave(members: Sequence[Member], leaving: Member) -> bool:
    """Whether at least one other voter stays; the store itself guards the quorum."""
    return leaving.is_learner or any(
        not member.is_learner and member.member_id != leaving.member_id for member in members
    )
