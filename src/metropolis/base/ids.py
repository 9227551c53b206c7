# SPDX-License-Identifier: Apache-2.0
"""Typed identifiers. A `NodeId` can only come from a key or from a text that was checked."""

import re
from typing import Final, NewType

from metropolis.base.errors import InvalidArgumentError

NodeId = NewType("NodeId", str)

PUBLIC_KEY_BYTES: Final = 32  # a raw Ed25519 public key
_NODE_ID: Final = re.compile(r"metropolis-[0-9a-f]{32}")


def node_id_from_public_key(public_key: bytes) -> NodeId:
    """Derive a node's id from its raw 32-byte Ed25519 public key.

    The id is the first 16 bytes in hexadecimal: not a hash, so people can compare it with a key.
    """
    assert len(public_key) == PUBLIC_KEY_BYTES, "raw Ed25519 public keys have 32 bytes"
    return NodeId(f"metropolis-{public_key[:16].hex()}")


def is_node_id(text: str) -> bool:
    """Tell whether `text` is spelled like a node id."""
    return _NODE_ID.fullmatch(text) is not None


def parse_node_id(text: str) -> NodeId:
    """Check the spelling of a node id.

    Raises:
        InvalidArgumentError: not `metropolis-` and 32 lower-case hexadecimal digits.
    """
    if not is_node_id(text):
        raise InvalidArgumentError(
            f"{text[:64]!r} is not a node id",
            remedy="Give an id as printed by `metroctl node list`: metropolis-<32 hex digits>.",
        )
    return NodeId(text)
