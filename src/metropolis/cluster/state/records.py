# SPDX-License-Identifier: Apache-2.0
"""Node records: how they are read, changed and shown.

A record wraps the stored message and never changes: what a newer build wrote and this one does not
know survives every rewrite.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import curator_pb2, management_pb2
from metropolis.api.common_pb2 import (
    NodeClusterNetworking,
    NodeLabels,
    NodeRoles,
    NodeStatus,
)
from metropolis.api.storage_pb2 import Node as StoredNode
from metropolis.base.errors import DataLossError, MetropolisError
from metropolis.base.ids import PUBLIC_KEY_BYTES, NodeId, node_id_from_public_key
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.state import keys
from metropolis.consensus.store import KeyValue

_STORED_STATES: Final = frozenset(int(state) for state in NodeState if state)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One node as stored.

    Attributes:
        message: Never changed in place; holds the cluster unlock key, so it never shows.
        mod_revision: Of the key it was read from; 0 for a record that is not stored yet.
    """

    node_id: NodeId
    public_key: bytes
    state: NodeState
    message: StoredNode = field(repr=False)
    mod_revision: int = 0

    @property
    def roles(self) -> Roles:
        """The roles held."""
        stored = self.message.roles
        return Roles(
            consensus_member=stored.HasField("consensus_member"),
            kubernetes_controller=stored.HasField("kubernetes_controller"),
            kubernetes_worker=stored.HasField("kubernetes_worker"),
        )

    @property
    def labels(self) -> dict[str, str]:
        """Labels by key, sorted."""
        return dict(sorted((pair.key, pair.value) for pair in self.message.labels.pairs))

    @property
    def external_address(self) -> str:
        """What the node reported last; empty when it has not."""
        return self.message.status.external_address

    def in_state(self, state: NodeState) -> "NodeRecord":
        """Return the record in another state."""
        message = self._copy()
        message.fsm_state = state.value  # type: ignore[assignment]  # the numbers are the same
        return self._with(message, state=state)

    def with_unlock_key(self, cluster_unlock_key: bytes) -> "NodeRecord":
        """Return the record with the cluster's half of the disk key."""
        message = self._copy()
        message.cluster_unlock_key = cluster_unlock_key
        return self._with(message)

    def without_keys(self) -> "NodeRecord":
        """Return the record of a node whose disk nobody can open any more."""
        message = self._copy()
        message.ClearField("cluster_unlock_key")
        message.ClearField("join_key")
        return self._with(message)

    def with_enrolment(self, *, join_key: bytes, tpm_usage: int) -> "NodeRecord":
        """Return the record with what a machine registered with."""
        message = self._copy()
        message.join_key = join_key
        message.tpm_usage = tpm_usage  # type: ignore[assignment]  # an int until it is stored
        return self._with(message)

    def with_roles(self, roles: Roles, member: NodeRoles.ConsensusMember | None) -> "NodeRecord":
        """Return the record with other roles.

        Args:
            member: What a consensus member is told; None keeps what the record says.
        """
        message = self._copy()
        stored = message.roles
        if not roles.consensus_member:
            stored.ClearField("consensus_member")
        elif member is not None:
            stored.consensus_member.CopyFrom(member)
        else:
            stored.consensus_member.SetInParent()
        for name, is_held in (
            ("kubernetes_controller", roles.kubernetes_controller),
            ("kubernetes_worker", roles.kubernetes_worker),
        ):
            if is_held:
                getattr(stored, name).SetInParent()
            else:
                stored.ClearField(name)  # type: ignore[arg-type]  # both are fields
        return self._with(message)

    def with_labels(self, labels: Mapping[str, str]) -> "NodeRecord":
        """Return the record with other labels."""
        message = self._copy()
        message.labels.CopyFrom(to_labels(labels))
        return self._with(message)

    def with_status(self, status: NodeStatus) -> "NodeRecord":
        """Return the record with another status."""
        message = self._copy()
        message.status.CopyFrom(status)
        return self._with(message)

    def with_networking(self, networking: NodeClusterNetworking) -> "NodeRecord":
        """Return the record with another part in the network between nodes."""
        message = self._copy()
        message.clusternet.CopyFrom(networking)
        return self._with(message)

    def _copy(self) -> StoredNode:
        message = StoredNode()
        message.CopyFrom(self.message)
        return message

    def _with(self, message: StoredNode, *, state: NodeState | None = None) -> "NodeRecord":
        return NodeRecord(
            node_id=self.node_id,
            public_key=self.public_key,
            state=self.state if state is None else state,
            message=message,
            mod_revision=self.mod_revision,
        )


def new_record(*, public_key: bytes, state: NodeState) -> NodeRecord:
    """Return a record that is not stored yet."""
    node_id = node_id_from_public_key(public_key)
    message = StoredNode(id=node_id, public_key=public_key)
    blank = NodeRecord(
        node_id=node_id, public_key=public_key, state=NodeState.ABSENT, message=message
    )
    return blank.in_state(state)


def to_labels(labels: Mapping[str, str]) -> NodeLabels:
    """Return labels as a message, sorted by key."""
    pairs = [NodeLabels.Pair(key=key, value=value) for key, value in sorted(labels.items())]
    return NodeLabels(pairs=pairs)


def encode(record: NodeRecord) -> bytes:
    """Return the bytes to store."""
    assert int(record.state) in _STORED_STATES, "absent nodes have no record"
    return record.message.SerializeToString(deterministic=True)


def decode(stored: KeyValue) -> NodeRecord:
    """Read a record.

    Raises:
        DataLossError: it is damaged, or belongs under another key. The text quotes no content.
    """
    try:
        node_id = keys.node_id_of(stored.key)
        message = StoredNode.FromString(stored.value)
        problem = _problem(message, node_id)
    except (DecodeError, MetropolisError) as cause:
        raise _damaged(stored.key, "it cannot be read") from cause
    if problem is not None:
        raise _damaged(stored.key, problem)
    return NodeRecord(
        node_id=node_id,
        public_key=message.public_key,
        state=NodeState(message.fsm_state),
        message=message,
        mod_revision=stored.mod_revision,
    )


def curator_node(record: NodeRecord) -> curator_pb2.Node:
    """Return what watching nodes see: roles in full, no secrets."""
    stored = record.message
    shown = curator_pb2.Node(
        id=record.node_id, state=stored.fsm_state, roles=stored.roles, labels=stored.labels
    )
    if stored.HasField("status"):
        shown.status.CopyFrom(stored.status)
    if stored.HasField("clusternet"):
        shown.clusternet.CopyFrom(stored.clusternet)
    return shown


def management_node(record: NodeRecord) -> management_pb2.Node:
    """Return what operators see, without health: roles by name only, labels sorted."""
    stored = record.message
    shown = management_pb2.Node(
        pubkey=record.public_key,
        id=record.node_id,
        state=stored.fsm_state,
        tpm_usage=stored.tpm_usage,
        labels=to_labels(record.labels),
    )
    if stored.HasField("status"):
        shown.status.CopyFrom(stored.status)
    roles = shown.roles
    roles.SetInParent()
    if stored.roles.HasField("consensus_member"):
        roles.consensus_member.SetInParent()
    if stored.roles.HasField("kubernetes_controller"):
        roles.kubernetes_controller.SetInParent()
    if stored.roles.HasField("kubernetes_worker"):
        roles.kubernetes_worker.SetInParent()
    return shown


def _problem(message: StoredNode, node_id: NodeId) -> str | None:
    if len(message.public_key) != PUBLIC_KEY_BYTES:
        return "its public key has a wrong length"
    if node_id_from_public_key(message.public_key) != node_id:
        return "its public key belongs to another node"
    if message.id and message.id != node_id:
        return "it names another node"
    if int(message.fsm_state) not in _STORED_STATES:
        return "its state is unknown"
    return None


def _damaged(key: bytes, problem: str) -> DataLossError:
    return DataLossError(
        f"the record {key[-48:]!r} is damaged: {problem}",
        remedy="Delete the node with `metroctl node delete` and install its machine again.",
    )
