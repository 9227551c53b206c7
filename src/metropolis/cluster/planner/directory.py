# SPDX-License-Identifier: Apache-2.0
"""Which nodes a newcomer is told about. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from metropolis.api.common_pb2 import ClusterDirectory
from metropolis.base.ids import NodeId
from metropolis.cluster.lifecycle import NodeState

NODES_MAX: Final = 15  # what clients of the original expect: enough to find a leader from


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node that may be listed. `external_address` is empty until it reported one."""

    node_id: NodeId
    public_key: bytes
    state: NodeState
    external_address: str


def directory(candidates: Iterable[Candidate]) -> ClusterDirectory:
    """List the members that can be reached, ordered by public key, at most fifteen.

    Every node knows who leads, so any of them will do to begin with. One that has not reported
    its address yet is of no use, and newcomers refuse a directory that lists such a node.
    """
    members = sorted(
        (node for node in candidates if node.state is NodeState.UP and node.external_address),
        key=lambda node: node.public_key,
    )
    listed = ClusterDirectory()
    for node in members[:NODES_MAX]:
        entry = listed.nodes.add(id=node.node_id)
        entry.addresses.add(host=node.external_address)
    return listed
