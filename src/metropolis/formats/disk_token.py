# SPDX-License-Identifier: Apache-2.0
"""The second key of an encrypted disk, encrypted to an operator, as a LUKS2 token.

    {"type": "metropolis-recovery", "keyslots": ["1"], "recipient": hex SHA-256 of the public key,
     "box": base64 of ephemeral public key (32) and the key of the slot (32) with its tag (16)}

The box is that of a cluster's backup (`formats.backup.sealing`) with another prologue, so the same
recovery key can serve both. Whoever has the disk sees the token and learns nothing from it.
"""

import base64
import json
from typing import Any, Final, cast

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats.backup.sealing import (
    KEY_BYTES,
    fingerprint,
    open_with,
    public_key_of,
    seal_to,
)

TOKEN_TYPE: Final = "metropolis-recovery"  # noqa: S105  # the name of a kind
_PROLOGUE: Final = b"metropolis disk recovery key, format 1\0"


def encode_token(public_key: bytes, *, secret: bytes, ephemeral_secret: bytes, slot: int) -> bytes:
    """Return the token of a key slot.

    Args:
        public_key: X25519, raw: the operator's.
        secret: What opens the slot.
        ephemeral_secret: 32 random bytes, used once.

    Raises:
        InvalidArgumentError: the public key is none.
    """
    ephemeral, key = seal_to(public_key, _PROLOGUE, ephemeral_secret)
    box = ephemeral + key.seal(0, secret, is_last=True)
    token = {
        "type": TOKEN_TYPE,
        "keyslots": [str(slot)],
        "recipient": fingerprint(public_key).hex(),
        "box": base64.b64encode(box).decode("ascii"),
    }
    return json.dumps(token).encode("ascii")


def open_token(token: bytes, private_key: bytes) -> bytes:
    """Return what opens the slot of a token.

    Args:
        private_key: X25519, raw.

    Raises:
        DataLossError: it is no such token, or a damaged one.
        FailedPreconditionError: it is for another recovery key.
    """
    try:
        found = cast("dict[str, Any]", json.loads(token))
        if found["type"] != TOKEN_TYPE:
            raise ValueError(found["type"])
        recipient = bytes.fromhex(found["recipient"])
        box = base64.b64decode(found["box"], validate=True)
    except (ValueError, KeyError, TypeError) as cause:
        raise DataLossError(
            "this is no recovery token of a disk",
            remedy="Export it with `cryptsetup token export --token-id 0 DEVICE`.",
        ) from cause
    if recipient != fingerprint(public_key_of(private_key)):
        raise FailedPreconditionError(
            f"this disk opens to recovery key {recipient.hex()[:16]}, and this is "
            f"{fingerprint(public_key_of(private_key)).hex()[:16]}",
            remedy="Give the recovery key that the machine was installed with.",
        )
    key = open_with(private_key, _PROLOGUE, box[:KEY_BYTES], sealed_for=recipient)
    return key.open(0, box[KEY_BYTES:], is_last=True)
