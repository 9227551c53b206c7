# SPDX-License-Identifier: Apache-2.0
"""Encryption to a public key, in chunks: STREAM as the age file format uses it.

    shared    = X25519(ephemeral secret, recovery public key)
    key       = HKDF-SHA-256(shared, salt = ephemeral public || recovery public,
                             info = a fixed text || SHA-256(header))
    chunk n   = ChaCha20-Poly1305(key, nonce = n as 11 bytes || 0x01 if it is the last else 0x00)

All chunks but the last hold 64 KiB; the last is empty only when it is the first. The key belongs to
one file, so nonces never repeat; the counter keeps chunks in their order, the flag tells the end,
and the header is part of the key.

Sources: RFC 7748, RFC 5869, RFC 8439; Hoang, Reyhanitabar, Rogaway and Vizar, "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (STREAM); age-encryption.org/v1.
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.formats.backup.header import damaged

CHUNK_BYTES: Final = 64 << 10
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
_SEALED_BYTES: Final = CHUNK_BYTES + TAG_BYTES
_INFO: Final = b"metropolis cluster backup, format 1\0"
_COUNTER_BYTES: Final = 11


class FileKey:
    """The key of one file. Whoever has it can read the file; it is never written anywhere."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = ChaCha20Poly1305(secret)

    def seal(self, number: int, data: bytes, *, is_last: bool) -> bytes:
        """Encrypt a chunk."""
        return self._cipher.encrypt(_nonce(number, is_last=is_last), data, None)

    def open(self, number: int, data: bytes, *, is_last: bool) -> bytes:
        """Decrypt a chunk.

        Raises:
            DataLossError: it is not this file's chunk of that number.
        """
        try:
            return self._cipher.decrypt(_nonce(number, is_last=is_last), data, None)
        except InvalidTag:
            what = "it ends too early or" if is_last else "a part of it"
            raise damaged(f"{what} was changed, at chunk {number}") from None


class Sealer:
    """Encrypts a stream of bytes."""

    def __init__(self, key: FileKey) -> None:
        self._key = key
        self._buffer = bytearray()
        self._number = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes and yield the chunks that are full. Exhaust it."""
        self._buffer += data
        while len(self._buffer) > CHUNK_BYTES:  # one byte more: the last is never empty
            chunk = bytes(self._buffer[:CHUNK_BYTES])
            del self._buffer[:CHUNK_BYTES]
            yield self._key.seal(self._number, chunk, is_last=False)
            self._number += 1

    def finish(self) -> bytes:
        """Return the last chunk."""
        return self._key.seal(self._number, bytes(self._buffer), is_last=True)


class Opener:
    """Decrypts a stream of bytes."""

    def __init__(self, key: FileKey) -> None:
        self._key = key
        self._buffer = bytearray()
        self._number = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes and yield what is decrypted and genuine. Exhaust it.

        Raises:
            DataLossError: something was changed, moved or cut.
        """
        self._buffer += data
        while len(self._buffer) > _SEALED_BYTES:
            chunk = bytes(self._buffer[:_SEALED_BYTES])
            del self._buffer[:_SEALED_BYTES]
            yield self._key.open(self._number, chunk, is_last=False)
            self._number += 1

    def finish(self) -> bytes:
        """Return what the last chunk holds.

        Raises:
            DataLossError: the end is missing or changed.
        """
        if len(self._buffer) < TAG_BYTES:
            raise damaged("it is cut")
        chunk = self._key.open(self._number, bytes(self._buffer), is_last=True)
        if not chunk and self._number:
            raise damaged("its last chunk is empty")
        return chunk


def fingerprint(public_key: bytes) -> bytes:
    """Return the SHA-256 of a public recovery key."""
    return hashlib.sha256(public_key).digest()


def public_key_of(private_key: bytes) -> bytes:
    """Return the public half of a recovery key; 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def check_public_key(public_key: bytes) -> bytes:
    """Return a public recovery key that can be encrypted to.

    Raises:
        InvalidArgumentError: it has a wrong length, or is a point that everybody knows a secret of.
    """
    if len(public_key) != KEY_BYTES:
        raise InvalidArgumentError(
            f"a recovery key has {KEY_BYTES} bytes, not {len(public_key)}",
            remedy="Make one with `metroctl cluster backup keygen`.",
        )
    _shared(X25519PrivateKey.from_private_bytes(b"\1" * KEY_BYTES), public_key)
    return public_key


def seal_to(public_key: bytes, prologue: bytes, ephemeral_secret: bytes) -> tuple[bytes, FileKey]:
    """Return the ephemeral public key, which goes into the file, and the file's key.

    Args:
        public_key: Recovery key, X25519 raw.
        prologue: The file's header, as it stands in the file.
        ephemeral_secret: 32 random bytes, used once and forgotten.

    Raises:
        InvalidArgumentError: the recovery key is none.
    """
    secret = X25519PrivateKey.from_private_bytes(ephemeral_secret)
    ephemeral = secret.public_key().public_bytes_raw()
    shared = _shared(secret, public_key)
    return ephemeral, _file_key(shared, ephemeral, public_key, prologue)


def open_with(
    private_key: bytes, prologue: bytes, ephemeral: bytes, *, sealed_for: bytes
) -> FileKey:
    """Return the file's key.

    Args:
        private_key: Recovery key, X25519 raw.
        ephemeral: As it stands in the file.
        sealed_for: Fingerprint that the header names.

    Raises:
        FailedPreconditionError: the file is encrypted to another key.
        DataLossError: the file is damaged.
    """
    public_key = public_key_of(private_key)
    if not hmac.compare_digest(fingerprint(public_key), sealed_for):
        raise FailedPreconditionError(
            f"this backup is encrypted to recovery key {sealed_for.hex()[:16]}, "
            f"and this is {fingerprint(public_key).hex()[:16]}",
            remedy="Give the recovery key that was registered when the backup was made.",
        )
    try:
        shared = _shared(X25519PrivateKey.from_private_bytes(private_key), ephemeral)
    except InvalidArgumentError as cause:
        raise damaged("its ephemeral key is none") from cause
    return _file_key(shared, ephemeral, public_key, prologue)


def _shared(secret: X25519PrivateKey, public_key: bytes) -> bytes:
    try:
        return secret.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:  # a wrong length, or a point of small order: the result would be zeros
        raise InvalidArgumentError(
            "this is no recovery key", remedy="Make one with `metroctl cluster backup keygen`."
        ) from None


def _file_key(shared: bytes, ephemeral: bytes, public_key: bytes, prologue: bytes) -> FileKey:
    info = _INFO + hashlib.sha256(prologue).digest()
    salt = ephemeral + public_key
    return FileKey(HKDF(SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(shared))


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(_COUNTER_BYTES, "big") + (b"\1" if is_last else b"\0")
