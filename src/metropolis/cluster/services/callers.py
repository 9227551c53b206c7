# SPDX-License-Identifier: Apache-2.0
"""Who calls, and which node a request is about."""

from dataclasses import dataclass
from typing import Final

from metropolis.api.management_pb2 import (
    DecommissionNodeRequest,
    DeleteNodeRequest,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.base.ids import PUBLIC_KEY_BYTES, NodeId, node_id_from_public_key, parse_node_id
from metropolis.cluster.state.records import NodeRecord
from metropolis.rpc.peer import Peer, PeerKind

Named = (
    DecommissionNodeRequest | DeleteNodeRequest | UpdateNodeLabelsRequest | UpdateNodeRolesRequest
)

_SELF_SIGNED: Final = "Connect with one self-signed Ed25519 certificate for the key."


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeName:
    """A node as a request names it. `public_key` is None when the id was given."""

    node_id: NodeId
    public_key: bytes | None = None

    def check(self, record: NodeRecord) -> None:
        """Check that the record is of the node that is meant.

        Raises:
            NotFoundError: it has another key with the same beginning.
        """
        if self.public_key is not None and self.public_key != record.public_key:
            raise NotFoundError(
                f"no node has that public key; {record.node_id} has another",
                remedy="List the nodes with `metroctl node list`.",
            )


def check_public_key(key: bytes, what: str = "pubkey") -> bytes:
    """Return a raw Ed25519 public key.

    Raises:
        InvalidArgumentError: a wrong length.
    """
    if len(key) != PUBLIC_KEY_BYTES:
        raise InvalidArgumentError(
            f"{what} has {len(key)} bytes, not {PUBLIC_KEY_BYTES}",
            remedy="Send the raw Ed25519 public key.",
        )
    return key


def named_node(request: Named) -> NodeName:
    """Return which node a request is about.

    Raises:
        InvalidArgumentError: it names none, or not properly.
    """
    match request.WhichOneof("node"):
        case "pubkey":
            key = check_public_key(request.pubkey)
            return NodeName(node_id=node_id_from_public_key(key), public_key=key)
        case "id":
            return NodeName(node_id=parse_node_id(request.id))
        case _:
            raise InvalidArgumentError(
                "the request names no node", remedy="Set either id or pubkey."
            )


def calling_node(peer: Peer) -> NodeId:
    """Return the id of the node that calls.

    Raises:
        PermissionDeniedError: the caller is not a node.
    """
    if peer.kind is not PeerKind.NODE:
        raise PermissionDeniedError(
            "only a node may call this, about itself",
            remedy="Call it with the node's own certificate.",
        )
    return NodeId(peer.identity)


def proven_key(peer: Peer, refusal: type[MetropolisError] = UnauthenticatedError) -> bytes:
    """Return the key that a machine without a certificate of the cluster proved to hold.

    Raises:
        MetropolisError: it proved none; the class is `refusal`.
    """
    if peer.kind is not PeerKind.EPHEMERAL or peer.public_key is None:
        raise refusal(
            "no key was proven: a self-signed certificate is required", remedy=_SELF_SIGNED
        )
    return peer.public_key
