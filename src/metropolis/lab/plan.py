# SPDX-License-Identifier: Apache-2.0
"""What a launch does next, decided from what the cluster says. Pure: messages in, a plan out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.api import common_pb2
from metropolis.api.management_pb2 import Node
from metropolis.ctl.tables import role_names
from metropolis.lab.model import Rack, Roles, plan_roles

_ROLE_NAMES: Final = (
    ("ConsensusMember", "consensus_member"),
    ("KubernetesController", "kubernetes_controller"),
    ("KubernetesWorker", "kubernetes_worker"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRoles:
    """Roles to give to a node, all in one step."""

    number: int
    node_id: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """What to do now, in this order, and what to wait for afterwards.

    Attributes:
        awaited: Completes "waiting for"; None when there is nothing left to do.
    """

    approve: Sequence[Node] = ()
    add_roles: Sequence[NewRoles] = ()
    awaited: str | None = None


def plan_launch(rack: Rack, found: Sequence[Node], *, voters: int) -> LaunchPlan:
    """Decide how a first launch goes on.

    Args:
        found: Every node of the cluster.
        voters: How many consensus members vote.
    """
    # The network is ours alone, and so is the ticket: whoever is NEW is one of our machines.
    approve = [node for node in found if node.state == common_pb2.NODE_STATE_NEW]
    members = by_number(rack, found)
    wanted = plan_roles(rack.count)
    add_roles = [
        NewRoles(number=number, node_id=node.id, names=names)
        for number, node in members.items()
        if (names := _missing(wanted[number], node))
    ]
    voters_wanted = sum(roles.consensus_member for roles in wanted)
    absent = [str(number) for number in rack.numbers if number not in members]
    if len(found) < rack.count:
        awaited = f"{rack.count - len(found)} of {rack.count} nodes to register"
    elif absent:
        awaited = f"node {', '.join(absent)} to join"
    elif voters < voters_wanted:
        awaited = f"{voters_wanted - voters} of {voters_wanted} consensus members to vote"
    elif add_roles:
        awaited = "roles to take effect"
    else:
        return LaunchPlan(awaited=_unhealthy(rack, found))
    return LaunchPlan(approve=approve, add_roles=add_roles, awaited=awaited)


def plan_start(rack: Rack, found: Sequence[Node]) -> LaunchPlan:
    """Decide how a launched cluster comes back: nodes and roles are the operator's business."""
    return LaunchPlan(awaited=_unhealthy(rack, found))


def by_number(rack: Rack, found: Sequence[Node]) -> Mapping[int, Node]:
    """Nodes that are UP and have said where they are, by their number in the rack, in order."""
    by_address = {
        node.status.external_address: node
        for node in found
        if node.state == common_pb2.NODE_STATE_UP
    }
    addresses = [(number, rack.address(number)) for number in rack.numbers]
    return {number: by_address[place] for number, place in addresses if place in by_address}


def _missing(wanted: Roles, node: Node) -> Sequence[str]:
    held = role_names(node.roles)
    return [name for name, field in _ROLE_NAMES if getattr(wanted, field) and name not in held]


def _unhealthy(rack: Rack, found: Sequence[Node]) -> str | None:
    names = {rack.address(number): f"node {number}" for number in rack.numbers}
    waiting = [
        names.get(node.status.external_address, node.id)
        for node in found
        if node.state == common_pb2.NODE_STATE_UP and node.health != Node.HEALTH_HEALTHY
    ]
    return f"{', '.join(sorted(waiting))} to be HEALTHY" if waiting else None
