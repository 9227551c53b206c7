# SPDX-License-Identifier: Apache-2.0
"""Authorization of commands (part 1, 19 and 21): passwords, and salted sessions.

The salt reaches the TPM encrypted to one of its keys, so whoever only listens on the wires between
processor and TPM learns neither the session's key nor the parameter that it encrypts.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePublicNumbers,
    derive_private_key,
)
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from metropolis.base.errors import DataLossError, InternalError
from metropolis.protocols.tpm2 import codes
from metropolis.protocols.tpm2.public import Point
from metropolis.protocols.tpm2.wire import Reader, sized, u8, u32

NONCE_BYTES: Final = 16
EPHEMERAL_SECRET_BYTES: Final = 40  # 64 bits more than the order of P-256: no bias to speak of
_AES_KEY_BYTES: Final = 16
_AES_BLOCK_BYTES: Final = 16
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Authorization(Protocol):
    """What entitles to use the handles of a command."""

    def encrypt(self, parameter: bytes) -> bytes:
        """Encrypt the content of a command's first parameter, if that is wanted."""
        ...

    def authorize(self, command_digest: bytes) -> bytes:
        """Return the authorization area: a TPMS_AUTH_COMMAND."""
        ...

    def check(self, response_digest: bytes, area: Reader) -> None:
        """Check the response's authorization area.

        Raises:
            DataLossError: the response is not the TPM's.
        """
        ...

    def decrypt(self, parameter: bytes) -> bytes:
        """Decrypt the content of a response's first parameter, if it is encrypted."""
        ...


class Password:
    """The empty password of the hierarchies and keys that we leave without one."""

    def encrypt(self, parameter: bytes) -> bytes:
        return parameter

    def authorize(self, command_digest: bytes) -> bytes:
        assert command_digest
        return u32(codes.RS_PASSWORD) + sized(b"") + u8(0) + sized(b"")

    def check(self, response_digest: bytes, area: Reader) -> None:
        assert response_digest
        area.sized()
        area.take(1)
        area.sized()

    def decrypt(self, parameter: bytes) -> bytes:
        return parameter


@dataclass(frozen=True, slots=True)
class Salt:
    """A secret that only we and the owner of a key know.

    Attributes:
        encrypted: For StartAuthSession.
    """

    secret: bytes
    encrypted: bytes

    @classmethod
    def to(cls, key: Point, ephemeral_secret: bytes) -> "Salt":
        """Agree on a salt with a storage key of the TPM (part 1, C.6.1).

        Args:
            ephemeral_secret: `EPHEMERAL_SECRET_BYTES` random bytes, used once.

        Raises:
            InternalError: the key is no point of the curve.
        """
        number = int.from_bytes(ephemeral_secret, "big") % (_P256_ORDER - 1) + 1
        private = derive_private_key(number, SECP256R1())
        numbers = private.public_key().public_numbers()
        ours = Point(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
        x, y = int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big")
        try:
            theirs = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
        except ValueError as cause:
            raise InternalError(
                "the TPM's storage key is no key", remedy="Update the TPM's firmware."
            ) from cause
        shared = private.exchange(ECDH(), theirs)
        secret = _kdf_e(shared, b"SECRET", ours.x, key.x)
        return cls(secret=secret, encrypted=ours.marshalled)


class Session:
    """A salted session, HMAC or policy, that encrypts the first parameter of one direction.

    It authorizes objects with an empty password or with a policy, so its HMAC is keyed by the
    session's key alone.
    """

    def __init__(
        self, handle: int, *, salt: Salt, nonce_caller: bytes, nonce_tpm: bytes, attributes: int
    ) -> None:
        self.handle = handle
        self._key = _kdf_a(salt.secret, b"ATH", nonce_tpm, nonce_caller, 8 * codes.SHA256_BYTES)
        self._caller = nonce_caller
        self._tpm = nonce_tpm
        self._attributes = attributes | codes.SESSION_CONTINUE

    def renew(self, nonce: bytes) -> None:
        """Set our nonce of the next command."""
        self._caller = nonce

    def encrypt(self, parameter: bytes) -> bytes:
        if not self._attributes & codes.SESSION_DECRYPT:
            return parameter
        return self._cipher(self._caller, self._tpm).encryptor().update(parameter)

    def authorize(self, command_digest: bytes) -> bytes:
        mac = self._mac(command_digest, self._caller, self._tpm, self._attributes)
        return u32(self.handle) + sized(self._caller) + u8(self._attributes) + sized(mac)

    def check(self, response_digest: bytes, area: Reader) -> None:
        nonce, attributes, mac = area.sized(), area.number(1), area.sized()
        expected = self._mac(response_digest, nonce, self._caller, attributes)
        if not hmac.compare_digest(mac, expected):
            raise DataLossError(
                "the answer does not come from the TPM that was asked",
                remedy="Look for something between this machine's processor and its TPM.",
            )
        self._tpm = nonce

    def decrypt(self, parameter: bytes) -> bytes:
        if not self._attributes & codes.SESSION_ENCRYPT:
            return parameter
        return self._cipher(self._tpm, self._caller).decryptor().update(parameter)

    def _mac(self, digest: bytes, newer: bytes, older: bytes, attributes: int) -> bytes:
        return hmac.digest(self._key, digest + newer + older + u8(attributes), "sha256")

    def _cipher(self, newer: bytes, older: bytes) -> "Cipher[CFB]":
        bits = 8 * (_AES_KEY_BYTES + _AES_BLOCK_BYTES)
        material = _kdf_a(self._key, b"CFB", newer, older, bits)
        return Cipher(AES(material[:_AES_KEY_BYTES]), CFB(material[_AES_KEY_BYTES:]))


def _kdf_a(key: bytes, label: bytes, newer: bytes, older: bytes, bits: int) -> bytes:
    """Part 1, 11.4.10.2; one round of SHA-256 is all that we need."""
    assert bits <= 8 * codes.SHA256_BYTES
    data = u32(1) + label + b"\0" + newer + older + u32(bits)
    return hmac.digest(key, data, "sha256")[: bits // 8]


def _kdf_e(shared: bytes, label: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Part 1, 11.4.10.3."""
    return hashlib.sha256(u32(1) + shared + label + b"\0" + ours + theirs).digest()
