# SPDX-License-Identifier: Apache-2.0
"""What a new owner's key signs before it replaces the present one.

It proves that somebody holds the new key: a mistyped one would lock everybody out. It names the
cluster and the key that it replaces, so that it serves for nothing else.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PURPOSE: Final = b"metropolis owner key rotation\0"


def sign_rotation(new_key: Ed25519PrivateKey, *, ca: bytes, old_public_key: bytes) -> bytes:
    """Sign with the new key.

    Args:
        ca: DER of the cluster's CA.
        old_public_key: Raw, of the present owner.
    """
    return new_key.sign(_statement(ca, old_public_key))


def is_rotation_signed(
    new_public_key: bytes, signature: bytes, *, ca: bytes, old_public_key: bytes
) -> bool:
    """Tell whether the holder of a raw public key signed exactly this rotation."""
    try:
        key = Ed25519PublicKey.from_public_bytes(new_public_key)
        key.verify(signature, _statement(ca, old_public_key))
    except (InvalidSignature, ValueError):
        return False
    return True


def _statement(ca: bytes, old_public_key: bytes) -> bytes:
    return _PURPOSE + hashlib.sha256(ca).digest() + old_public_key
