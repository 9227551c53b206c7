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
DECOMMISSIONS: Final = CURATOR + b"/ext/decommissions/"  # ours
SCRUB: Final = CURATOR + b"/ext/scrub/"  # ours: the order, and what members answer
SCRUB_ORDER: Final = SCRUB + b"order"
HEALTH: Final = CURATOR + b"/ext/health"  # ours: a leader's note to the next one
AUDIT_HEAD: Final = CURATOR + b"/ext/audit/head"  # ours, like the next
AUDIT_RECORDS: Final = CURATOR + b"/ext/audit/records/"
AUDIT_PAGE_RECORDS: Final = 1000  # whose keys differ in three digits; 1 MiB of 1 KiB each
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


def decommission(node_id: NodeId) -> bytes:
    """Key of the record that says how far the decommission of a node has come."""
    return DECOMMISSIONS + node_id.encode("ascii")


def scrub_answer(node_id: str) -> bytes:
    """Key under which a consensus member says which order to scrub it has carried out."""
    return SCRUB + b"done/" + node_id.encode("ascii")


def audit_record(sequence: int) -> bytes:
    """Key of a record of the audit log; keys sort as the records do."""
    return AUDIT_RECORDS + b"%020d" % sequence


def audit_page(sequence: int) -> bytes:
    """What the keys of a record and its neighbours begin with, `AUDIT_PAGE_RECORDS` in all."""
    return audit_record(sequence)[:-3]
