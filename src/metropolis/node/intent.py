# SPDX-License-Identifier: Apache-2.0
"""What the control plane of this node is to run: nothing, a first member, or a member."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import common_pb2
from metropolis.base.ids import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusIntent:
    """Run a consensus member.

    Attributes:
        founds: It is the first member of a new consensus; without it, one that was invited.
        role: CA, peer certificate, refused peers and the members there were at the invitation.
        attempt: Another number restarts a member that runs.
        key: The node's key, which also signs for the peer certificate.
    """

    node_id: NodeId
    founds: bool
    role: common_pb2.NodeRoles.ConsensusMember
    attempt: int = 0
    key: Ed25519PrivateKey = field(repr=False)
