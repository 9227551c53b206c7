# SPDX-License-Identifier: Apache-2.0
"""The builder's keys as a firmware takes them: PK.auth, KEK.auth and db.auth.

Each is signed as the variable's next value must be: PK and KEK by the PK, db by the KEK. All bytes
are the same every time, for the same keys.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding

from metropolis.formats.efi.authentication import authenticate
from metropolis.formats.efi.signature_database import X509, EfiSignature, encode
from metropolis.formats.efi.variables import ALLOWED, KEY_EXCHANGE_KEYS, PLATFORM_KEY, VariableName
from metropolis.image.keys import BuilderKey

# Who put the certificates there; it has no effect, and only has to be the same every time.
OWNER: Final = UUID("9b1d4c4e-7f0a-4a1b-8f4e-6d6574726f70")
# The version of these values: a firmware refuses older ones unless it is in Setup Mode.
_TIME: Final = datetime(2020, 1, 1, tzinfo=UTC)
_SIGNERS: Final[Mapping[str, tuple[VariableName, str]]] = {
    "PK": (PLATFORM_KEY, "PK"),
    "KEK": (KEY_EXCHANGE_KEYS, "PK"),
    "db": (ALLOWED, "KEK"),
}


def enrolment_files(keys: Mapping[str, BuilderKey]) -> Mapping[str, bytes]:
    """`NAME.auth` and `NAME.crt` (PEM) of PK, KEK and db, by file name."""
    files: dict[str, bytes] = {}
    for name, (variable, signer) in _SIGNERS.items():
        certificate = EfiSignature(kind=X509, owner=OWNER, data=keys[name].certificate_der)
        files[f"{name}.auth"] = authenticate(
            variable,
            encode([certificate]),
            time=_TIME,
            certificate_der=keys[signer].certificate_der,
            sign=keys[signer].sign,
        )
        files[f"{name}.crt"] = keys[name].certificate.public_bytes(Encoding.PEM)
    return files
