# SPDX-License-Identifier: Apache-2.0
"""How a member comes to be on this node."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.base.ids import NodeId
from metropolis.base.ports import CONSENSUS_TCP_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """What this member shows to its peers, and believes of them.

    Attributes:
        ca_certificate: DER of the consensus CA.
        certificate: DER, issued by that CA for `key`.
        initial_crl: DER of the CRL to start with; a newer one on disk is kept.
        key: The node's key.
    """

    ca_certificate: bytes
    certificate: bytes
    initial_crl: bytes
    key: Ed25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingPeer:
    """A member there was at the invitation: node id and peer URL."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Be the first member of a new consensus. Give the same identity until it is recorded."""

    identity: PeerIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Be a member that was invited as a learner. Also right at every later start."""

    identity: PeerIdentity
    peers: Sequence[ExistingPeer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Be the member that this node was, from what is on its disk."""


Start = Bootstrap | Join | Restart


def peer_url(node_id: NodeId) -> str:
    """Where a member's peers find it; every node resolves node ids."""
    return f"https://{node_id}:{CONSENSUS_TCP_PORT}"
