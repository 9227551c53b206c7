# SPDX-License-Identifier: Apache-2.0
"""Public areas (part 2, TPMT_PUBLIC) of the keys we have made. Their names: `formats.pcr`."""

from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import InternalError
from metropolis.protocols.tpm2 import codes
from metropolis.protocols.tpm2.wire import Reader, sized, u16, u32

_AES_128_CFB: Final = u16(codes.ALG_AES) + u16(128) + u16(codes.ALG_CFB)
_STORAGE_KEY_ATTRIBUTES: Final = (
    codes.FIXED_TPM
    | codes.FIXED_PARENT
    | codes.SENSITIVE_DATA_ORIGIN
    | codes.RESTRICTED
    | codes.DECRYPT
)
# PolicySecret of the endorsement hierarchy: TCG EK Credential Profile, B.3.3, policy A.
_ENDORSEMENT_POLICY: Final = bytes.fromhex(
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
)
_COORDINATE_BYTES: Final = 32  # of P-256
_NO_POINT: Final = sized(b"") + sized(b"")
_ZERO_POINT: Final = 2 * sized(bytes(_COORDINATE_BYTES))


def _ecc_storage_key(attributes: int, policy: bytes, unique: bytes) -> bytes:
    head = u16(codes.ALG_ECC) + u16(codes.ALG_SHA256) + u32(attributes) + sized(policy)
    scheme, kdf = u16(codes.ALG_NULL), u16(codes.ALG_NULL)
    return head + _AES_128_CFB + scheme + u16(codes.ECC_NIST_P256) + kdf + unique


# The parent of everything sealed. Made from the TPM's own seed: the same until it is cleared.
STORAGE_ROOT_KEY: Final = _ecc_storage_key(
    _STORAGE_KEY_ATTRIBUTES | codes.USER_WITH_AUTH | codes.NO_DICTIONARY_ATTACKS, b"", _NO_POINT
)
# Made from a seed that clearing the TPM leaves alone (EK Credential Profile, template L-2).
ENDORSEMENT_KEY: Final = _ecc_storage_key(
    _STORAGE_KEY_ATTRIBUTES | codes.ADMIN_WITH_POLICY, _ENDORSEMENT_POLICY, _ZERO_POINT
)


def sealed_object(policy: bytes) -> bytes:
    """Bytes that are given out when `policy` is met, and by no password."""
    attributes = codes.FIXED_TPM | codes.FIXED_PARENT | codes.NO_DICTIONARY_ATTACKS
    head = u16(codes.ALG_KEYEDHASH) + u16(codes.ALG_SHA256) + u32(attributes) + sized(policy)
    return head + u16(codes.ALG_NULL) + sized(b"")


@dataclass(frozen=True, slots=True)
class Point:
    """A public key on P-256."""

    x: bytes
    y: bytes

    @property
    def marshalled(self) -> bytes:
        """As a TPMS_ECC_POINT."""
        return sized(self.x) + sized(self.y)


def point_of(public: bytes) -> Point:
    """Return the public key of an ECC storage key.

    Raises:
        InternalError: it is no such key.
    """
    reader = Reader(public)
    kind = reader.number(2)
    reader.take(2 + 4)  # name algorithm, attributes
    reader.sized()  # policy
    reader.take(len(_AES_128_CFB) + 2)  # with the scheme
    curve = reader.number(2)
    reader.take(2)  # key derivation
    if kind != codes.ALG_ECC or curve != codes.ECC_NIST_P256:
        raise InternalError(
            "the TPM made another key than it was asked for", remedy="Update the TPM's firmware."
        )
    x = reader.sized().rjust(_COORDINATE_BYTES, b"\0")
    y = reader.sized().rjust(_COORDINATE_BYTES, b"\0")
    return Point(x, y)
