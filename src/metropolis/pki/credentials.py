# SPDX-License-Identifier: Apache-2.0
"""What one side of a connection presents."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Exactly one certificate (DER) and its private key. The key never shows in a repr."""

    certificate: bytes
    key: Ed25519PrivateKey = field(repr=False)
