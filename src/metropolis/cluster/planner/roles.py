# SPDX-License-Identifier: Apache-2.0
"""What a change of roles means. Pure.

Everything is checked here before anything happens: a request either cannot be carried out at all,
or every one of its steps can be tried. The members of the consensus change first, the record
follows; if the leader dies in between, `membership` brings the two together again.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.base.ids import NodeId
from metropolis.cluster.lifecycle import NodeState
from metropolis.consensus.store import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The roles a node holds."""

    consensus_member: bool = False
    kubernetes_controller: bool = False
    kubernetes_worker: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the roles held, as clients print them."""
        held = (
            ("ConsensusMember", self.consensus_member),
            ("KubernetesController", self.kubernetes_controller),
            ("KubernetesWorker", self.kubernetes_worker),
        )
        return tuple(name for name, is_held in held if is_held)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRequest:
    """What is asked for: None leaves a role as it is."""

    consensus_member: bool | None = None
    kubernetes_controller: bool | None = None
    kubernetes_worker: bool | None = None

    def applied_to(self, roles: Roles) -> Roles:
        """Return the roles that the request leads to."""

        def pick(wanted: bool | None, held: bool) -> bool:  # two values of a kind
            return held if wanted is None else wanted

        return Roles(
            consensus_member=pick(self.consensus_member, roles.consensus_member),
            kubernetes_controller=pick(self.kubernetes_controller, roles.kubernetes_controller),
            kubernetes_worker=pick(self.kubernetes_worker, roles.kubernetes_worker),
        )


class ConsensusStep(enum.Enum):
    """What happens to the members of the consensus."""

    NOTHING = "nothing"
    ADD = "add"  # as a learner; it is promoted once it caught up
    REFRESH = "refresh"  # a member already; only what it is told is renewed
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePlan:
    """Steps of a change of roles, in order: the consensus, then the record."""

    step: ConsensusStep
    roles: Roles
    sentence: str


def member_node_id(member: Member) -> str:
    """Return the node id of a member: its name, or before it started its peer URL's host."""
    if member.name:
        return member.name
    return (urlsplit(member.peer_urls[0]).hostname or "") if member.peer_urls else ""


def find_member(members: Sequence[Member], node_id: str) -> Member | None:
    """Return the member that is this node."""
    for member in members:
        if member_node_id(member) == node_id:
            return member
    return None


def plan(
    *,
    node_id: NodeId,
    state: NodeState,
    roles: Roles,
    request: RoleRequest,
    members: Sequence[Member],
) -> RolePlan:
    """Plan a change of roles.

    Raises:
        FailedPreconditionError: the roles do not go together, or the node or the consensus is
            in no state for it.
        UnavailableError: another new member is still catching up.
    """
    after = request.applied_to(roles)
    _check_combination(node_id, roles, request, after)
    if state is NodeState.DECOMMISSIONED and set(after.names) - set(roles.names):
        raise FailedPreconditionError(
            f"node {node_id} is decommissioned and gets no new roles",
            remedy="Choose a node that is in service.",
        )
    step = _consensus_step(node_id, request, members)
    names = ", ".join(after.names) or "none"
    return RolePlan(
        step=step,
        roles=after,
        sentence=f"Roles of node {node_id}: {', '.join(roles.names) or 'none'} => {names}",
    )


def check_quorum_without(members: Sequence[Member], leaving: Member) -> None:
    """Check that the consensus can lose a member. The store checks again when it happens.

    Raises:
        FailedPreconditionError: it is the last one that votes.
    """
    voters = [member for member in members if not member.is_learner]
    if not leaving.is_learner and len(voters) == 1:
        raise FailedPreconditionError(
            "the node is the only voting member of the consensus",
            remedy="Give ConsensusMember to other nodes first and wait until they vote.",
        )


def _check_combination(node_id: NodeId, roles: Roles, request: RoleRequest, after: Roles) -> None:
    if not after.kubernetes_controller or after.consensus_member:
        return
    if request.kubernetes_controller:
        raise FailedPreconditionError(
            f"node {node_id}: KubernetesController needs ConsensusMember",
            remedy=f"Run `metroctl node add role ConsensusMember {node_id}` first.",
        )
    if roles.consensus_member:
        raise FailedPreconditionError(
            f"node {node_id}: ConsensusMember cannot be removed while the node is a "
            "KubernetesController",
            remedy=f"Run `metroctl node remove role KubernetesController {node_id}` first.",
        )
    # The record is inconsistent already, and the request does not touch that.


def _consensus_step(
    node_id: NodeId, request: RoleRequest, members: Sequence[Member]
) -> ConsensusStep:
    own = find_member(members, node_id)
    if request.consensus_member is None:
        return ConsensusStep.NOTHING
    if request.consensus_member:
        if own is not None:
            return ConsensusStep.REFRESH
        waiting = [member_node_id(member) for member in members if member.is_learner]
        if waiting:
            raise UnavailableError(
                f"could not add node: {waiting[0]} is still catching up, one node at a time",
                remedy="Retry when `metroctl node describe` shows that it votes.",
            )
        return ConsensusStep.ADD
    if own is None:
        return ConsensusStep.NOTHING
    check_quorum_without(members, own)
    return ConsensusStep.REMOVE
