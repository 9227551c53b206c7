# SPDX-License-Identifier: Apache-2.0
"""Where everything lies in the store, exactly as in the original (double slashes included)."""

from typing import Final

from metropolis.base.ids import NodeId, parse_node_id

CURATOR: Final = b"namespaced:curator/"

NODES: Final = CURATOR + b"/nodes/"
JOIN_KEYS: Final = CURATOR + b"/join_keys/"
CONFIGURATION: Final = CURATOR + b"/cluster/configuration"
INITIAL_OWNER: Final = CURATOR + b"/global/initial_owner"
REGISTER_TICKET: Final = CURATOR + b"/global/register_ticket"
LEADER: Final = CURATOR + b"/leader/"
CLUSTER_PKI: Final = CURATOR + b"/cluster-pki/"
CONSENSUS_PKI: Final = b"namespaced:etcd-pki//pki/"


def node(node_id: NodeId) -> bytes:
    """Key of a node's record."""
    return NODES + node_id.encode("ascii")


def node_id_of(key: bytes) -> NodeId:
    """Return the node id that a record's key names.

    Raises:
        InvalidArgumentError: the key is no record's.
    """
    return parse_node_id(key.removeprefix(NODES).decode("ascii", errors="replace"))


def join_key(public_key: bytes) -> bytes:
    """Key of the index entry that leads from a raw join key to a node id."""
    return JOIN_KEYS + public_key.hex().encode("ascii")
