# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a call."""

import enum
from dataclasses import dataclass


class PeerKind(enum.Enum):
    """How much the other end proved."""

    ANONYMOUS = "anonymous"  # sent no certificate
    EPHEMERAL = "ephemeral"  # holds the key of a self-signed certificate, nothing more
    NODE = "node"  # holds a node certificate of this cluster
    USER = "user"  # holds a user certificate of this cluster
    LOCAL = "local"  # this very process, or its unix socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The caller of one call.

    Attributes:
        kind: How much was proven.
        public_key: Raw 32-byte Ed25519 key that the caller proved to hold; None for ANONYMOUS.
        identity: Node id of a NODE, name of a USER (`owner`), empty otherwise.
        address: Literal IP address of the connection's other end; empty when there is none.
        certificate: DER of the certificate, for revocation checks; empty for ANONYMOUS.
    """

    kind: PeerKind
    public_key: bytes | None = None
    identity: str = ""
    address: str = ""
    certificate: bytes = b""
