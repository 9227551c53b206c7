# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys in the forms we keep and exchange.

seed        32 bytes, the secret itself
public      32 bytes, raw
Go form     64 bytes, seed || public: what the cluster's store and upstream's tools keep
PKCS#8 PEM  what etcd and TLS libraries read
owner PEM   the Go form under a label of its own: `owner-key.pem` on the operator's machine
"""

import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from metropolis.base.errors import InvalidArgumentError
from metropolis.host import Entropy
from metropolis.pki import pem

SEED_BYTES: Final = 32
GO_KEY_BYTES: Final = 64
OWNER_KEY_LABEL: Final = "METROPOLIS INITIAL OWNER PRIVATE KEY"


def generate_key(entropy: Entropy) -> Ed25519PrivateKey:
    """Make a new key."""
    return Ed25519PrivateKey.from_private_bytes(entropy.token_bytes(SEED_BYTES))


def raw_public_key(key: Ed25519PrivateKey) -> bytes:
    """Return the raw 32-byte public half."""
    return key.public_key().public_bytes_raw()


def to_go_form(key: Ed25519PrivateKey) -> bytes:
    """Return the 64 bytes seed || public."""
    return key.private_bytes_raw() + raw_public_key(key)


def from_go_form(data: bytes) -> Ed25519PrivateKey:
    """Read the 64 bytes seed || public.

    Raises:
        InvalidArgumentError: wrong length, or the halves do not belong together.
    """
    if len(data) != GO_KEY_BYTES:
        raise InvalidArgumentError(
            f"an Ed25519 private key has {GO_KEY_BYTES} bytes, this one has {len(data)}",
            remedy="Restore the key from a backup; this copy is cut or is something else.",
        )
    key = Ed25519PrivateKey.from_private_bytes(data[:SEED_BYTES])
    if not hmac.compare_digest(raw_public_key(key), data[SEED_BYTES:]):
        raise InvalidArgumentError(
            "the private and the public half of an Ed25519 key do not belong together",
            remedy="Restore the key from a backup; this copy is damaged.",
        )
    return key


def to_pkcs8_pem(key: Ed25519PrivateKey) -> str:
    """Return the unencrypted PKCS#8 form. The file that holds it must have mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def from_pkcs8_pem(text: str | bytes) -> Ed25519PrivateKey:
    """Read an unencrypted PKCS#8 PEM.

    Raises:
        InvalidArgumentError: not an unencrypted Ed25519 key in that form.
    """
    error = InvalidArgumentError(
        "not an Ed25519 private key in PKCS#8 PEM form",
        remedy="Restore the key file from a backup; it starts with -----BEGIN PRIVATE KEY-----.",
    )
    der = pem.decode("PRIVATE KEY", text)  # refuses every other form before OpenSSL sees it
    try:
        key = load_pem_private_key(pem.encode("PRIVATE KEY", der).encode("ascii"), password=None)
    except Exception:  # noqa: BLE001  # the library documents no closed set; texts may quote
        raise error from None
    if not isinstance(key, Ed25519PrivateKey):
        raise error
    return key


def to_owner_pem(key: Ed25519PrivateKey) -> str:
    """Return the content of `owner-key.pem`, readable by upstream's tools. Mode 0600."""
    return pem.encode(OWNER_KEY_LABEL, to_go_form(key))


def from_owner_pem(text: str | bytes) -> Ed25519PrivateKey:
    """Read the content of `owner-key.pem`.

    Raises:
        InvalidArgumentError: another kind of file, or a damaged one.
    """
    return from_go_form(pem.decode(OWNER_KEY_LABEL, text))
