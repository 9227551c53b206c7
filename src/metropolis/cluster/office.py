# SPDX-License-Identifier: Apache-2.0
"""Who answers on this node right now, and where the leader is if it is somebody else.

Presiding   this node leads
Pointing    another one does
Vacant      nobody knows: no quorum, or between two leaders
"""

from collections.abc import Callable
from dataclasses import dataclass

from metropolis.base.errors import UnavailableError
from metropolis.base.ids import NodeId
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeState
from metropolis.rpc.authentication import NODE_PERMISSIONS, Permissions
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NodeDeletedError, NodeRetiredError, NotLeaderError
from metropolis.rpc.transport import Server
from metropolis.supervision import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderHint:
    """Where the leader is. `host` is a literal address, empty when not known yet."""

    node_id: str
    host: str


@dataclass(frozen=True, slots=True, eq=False)
class Presiding:
    """This node leads."""

    leader: Leader


@dataclass(frozen=True, slots=True)
class Pointing:
    """Another node leads."""

    hint: LeaderHint


@dataclass(frozen=True, slots=True)
class Vacant:
    """No leader is known."""


View = Presiding | Pointing | Vacant


class Office:
    """What the listener and the election share."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id
        self.view: Value[View] = Value(Vacant())
        self.servers: list[Server] = []

    def leading(self) -> Leader:
        """Return the leader that this node is.

        Raises:
            NotLeaderError: it is not; the error names who is, if that is known.
        """
        match self.view.current:
            case Presiding(leader):
                return leader
            case Pointing(hint):
                raise NotLeaderError(leader_id=hint.node_id, leader_host=hint.host)
            case Vacant():
                raise NotLeaderError

    def revoked(self, peer: Peer) -> str | None:
        """Say why a caller is not admitted any more. Only a leader can know, and only it must.

        Raises:
            NodeDeletedError: it is a node without a record, which must know to stop.
            UnavailableError: the cache is behind, so a node that has just committed looks unknown.
        """
        view = self.view.current
        if not isinstance(view, Presiding):
            return None
        if peer.kind is not PeerKind.NODE:
            return view.leader.access.current.why_refused(peer)
        record = view.leader.nodes.get(peer.identity)
        if record is not None and record.state is NodeState.UP:
            return None
        if view.leader.is_cache_behind:
            raise UnavailableError(
                "the leader has not caught up with its own writes yet", remedy="Retry."
            )
        if record is None and view.leader.nodes.knows(peer.identity):
            return "the node's record is damaged"
        if record is None:
            raise NodeDeletedError(
                f"node {peer.identity} is not admitted any more: the node was deleted",
                remedy="Wipe the machine and install it again to use it as a new node.",
            )
        if record.state is NodeState.DECOMMISSIONED:
            _check_goodbye(view.leader, record.node_id)
            return None
        return f"the node is {record.state.name}"

    def grants(self, peer: Peer) -> Permissions:
        """Return what a caller may do. Of users only a leader knows.

        Raises:
            NotLeaderError: it is about a user, and this node does not lead.
        """
        if peer.kind is not PeerKind.USER:
            return NODE_PERMISSIONS
        return self.leading().access.current.grants(peer)

    def disconnect(self, is_unwanted: Callable[[Peer], bool]) -> int:
        """Close the connections of unwanted callers; return how many."""
        return sum(server.disconnect(is_unwanted) for server in self.servers)


def _check_goodbye(leader: Leader, node_id: NodeId) -> None:
    """Admit a node that is out of service only as long as it has yet to say that it is wiped.

    Raises:
        NodeRetiredError: it has nothing to say any more.
        UnavailableError: the leader is new and has not read about it yet.
    """
    if leader.retiring.may_say_goodbye(node_id):
        return
    if not leader.retiring.is_loaded:
        raise UnavailableError(
            "the leader is new and has not read yet which nodes are being decommissioned",
            remedy="Retry.",
        )
    raise NodeRetiredError(
        f"node {node_id} is not admitted any more: the node is DECOMMISSIONED",
        remedy="Wipe the machine and install it again to use it as a new node.",
    )
