# SPDX-License-Identifier: Apache-2.0
"""Who built the image that was booted, and what of it is signed, as systemd's stub hands it over.

The stub puts two sections of the unified kernel image where the initrd finds them:
`tpm2-pcr-public-key.pem`, and `tpm2-pcr-signature.json`: {"sha256": [{"pcrs": [11], "pkfp": hex
SHA-256 of the key, "pol": hex digest of the policy PolicyPCR(11), "sig": base64 RSA PKCS #1 v1.5
over the policy digest}]}.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from metropolis.base.errors import DataLossError
from metropolis.formats.pcr import KERNEL_PCR

_EXPONENT: Final = 65537
_BUILD_AGAIN: Final = "Build the image again, and install it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """The image builder's key for measurements, and what it signed of the image that runs.

    Attributes:
        modulus: Of the RSA key.
        digest: SHA-256 of the key, DER: what people compare.
        signatures: Digest of a policy -> the builder's signature of it.
    """

    modulus: int
    digest: bytes
    signatures: Mapping[bytes, bytes]


def parse_builder(public_key_pem: bytes, signatures_json: bytes) -> Builder:
    """Read what the stub handed over.

    Raises:
        DataLossError: it is no such key, or no such signatures.
    """
    try:
        key = load_pem_public_key(public_key_pem)
    except ValueError as cause:
        raise DataLossError("the image's key is none", remedy=_BUILD_AGAIN) from cause
    if not isinstance(key, RSAPublicKey) or key.public_numbers().e != _EXPONENT:
        raise DataLossError("the image's key is no RSA key", remedy=_BUILD_AGAIN)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(der).digest()
    return Builder(
        modulus=key.public_numbers().n,
        digest=digest,
        signatures=_signatures(signatures_json, digest),
    )


def _signatures(text: bytes, key_digest: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    try:
        rows = cast("list[dict[str, Any]]", json.loads(text)["sha256"])
        for row in rows:
            if row["pcrs"] == [KERNEL_PCR] and bytes.fromhex(row["pkfp"]) == key_digest:
                found[bytes.fromhex(row["pol"])] = base64.b64decode(row["sig"], validate=True)
    except (ValueError, KeyError, TypeError) as cause:
        raise DataLossError(
            "the image's signatures of its measurement are damaged", remedy=_BUILD_AGAIN
        ) from cause
    return found
