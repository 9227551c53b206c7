# SPDX-License-Identifier: Apache-2.0
"""The content of a backup: records, and an end that proves that none is missing.

    record     key length u32 (not 0) │ value length u32 │ key │ value
    end        0 u32 │ count u64 │ SHA-256 │ Ed25519 signature

Keys ascend, so no key occurs twice. The hash covers the header and everything before itself. The
signature is the cluster CA's over a fixed text and that hash: who knows the public recovery key
can encrypt to it, but only the cluster can make a backup of itself.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from metropolis.formats.backup.header import (
    Header,
    damaged,
    decode_header,
    encode_header,
    header_bytes,
)

KEY_BYTES_MAX: Final = 4096
VALUE_BYTES_MAX: Final = 3 << 19  # 1.5 MiB, what the consensus store takes in one request
CONTEXT: Final = b"metropolis cluster backup, format 1, signed by the cluster CA\0"

_LENGTHS: Final = struct.Struct(">II")
_END: Final = struct.Struct(">IQ")
_KEY_LENGTH: Final = struct.Struct(">I")
_HASH_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_END_BYTES: Final = _END.size + _HASH_BYTES + _SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Record:
    """One key of the store with its value, which may be a secret."""

    key: bytes
    value: bytes = field(repr=False)


class ArchiveWriter:
    """Turns records into the content of a backup, piece by piece."""

    def __init__(self, header: Header) -> None:
        self.prologue = encode_header(header)
        self.count = 0
        self._hash = hashlib.sha256(self.prologue)
        self._last_key = b""

    def record(self, record: Record) -> bytes:
        """Return the next record. Keys must ascend."""
        assert self._last_key < record.key, "keys ascend"
        assert len(record.key) <= KEY_BYTES_MAX, "a key is longer than any of ours"
        assert len(record.value) <= VALUE_BYTES_MAX, "a value is longer than the store takes"
        self._last_key = record.key
        self.count += 1
        lengths = _LENGTHS.pack(len(record.key), len(record.value))
        piece = b"".join((lengths, record.key, record.value))
        self._hash.update(piece)
        return piece

    def finish(self, ca_key: Ed25519PrivateKey) -> bytes:
        """Return the end. Nothing comes after it."""
        end = _END.pack(0, self.count)
        self._hash.update(end)
        digest = self._hash.digest()
        return end + digest + ca_key.sign(CONTEXT + digest)


class ArchiveReader:
    """Turns the content of a backup into records, piece by piece.

    Attributes:
        digest: SHA-256 of the whole content, once `finish` has returned.
    """

    def __init__(self, prologue: bytes) -> None:
        self.count = 0
        self.digest = b""
        self._hash = hashlib.sha256(prologue)
        self._buffer = bytearray()
        self._last_key = b""
        self._signature = b""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Take the next bytes and yield the records that are complete. Exhaust it.

        Raises:
            DataLossError: this is not the content of a backup.
        """
        self._buffer += data
        offset = 0
        while (taken := self._next(offset)) is not None:
            record, offset = taken
            yield record
        del self._buffer[:offset]
        if len(self._buffer) > _LENGTHS.size + KEY_BYTES_MAX + VALUE_BYTES_MAX:
            raise damaged("a record is longer than any can be")

    def finish(self) -> None:
        """Check the end, all but its signature.

        Raises:
            DataLossError: records are missing, changed or too many.
        """
        end = bytes(self._buffer)
        if len(end) != _END_BYTES or end[: _KEY_LENGTH.size] != bytes(_KEY_LENGTH.size):
            raise damaged("its end is missing")
        _, count = _END.unpack_from(end)
        self._hash.update(end[: _END.size])
        digest = end[_END.size : _END.size + _HASH_BYTES]
        if count != self.count:
            raise damaged(f"it has {self.count} records, and says that it has {count}")
        if not hmac.compare_digest(self._hash.digest(), digest):
            raise damaged("its checksum is another one")
        self.digest = digest
        self._signature = end[-_SIGNATURE_BYTES:]

    def check_signature(self, ca_public_key: bytes) -> None:
        """Check that a CA (raw Ed25519) has signed this. Only after `finish`.

        Raises:
            DataLossError: it has not.
        """
        assert self.digest, "only after finish"
        key = Ed25519PublicKey.from_public_bytes(ca_public_key)
        try:
            key.verify(self._signature, CONTEXT + self.digest)
        except InvalidSignature:
            raise damaged("the CA of its cluster has not signed it") from None

    def _next(self, offset: int) -> tuple[Record, int] | None:
        left = len(self._buffer) - offset
        if left < _LENGTHS.size:
            return None
        key_bytes, value_bytes = _LENGTHS.unpack_from(self._buffer, offset)
        if key_bytes == 0:  # the end, which must be all that is left
            if left > _END_BYTES:
                raise damaged("something follows its end")
            return None
        if key_bytes > KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
            raise damaged("a record is longer than any can be")
        end = offset + _LENGTHS.size + key_bytes + value_bytes
        if len(self._buffer) < end:
            return None
        piece = bytes(self._buffer[offset:end])
        key = piece[_LENGTHS.size : _LENGTHS.size + key_bytes]
        if key <= self._last_key:
            raise damaged("its keys are out of order")
        self._hash.update(piece)
        self._last_key = key
        self.count += 1
        return Record(key, piece[_LENGTHS.size + key_bytes :]), end


def read_archive(data: bytes) -> tuple[Header, ArchiveReader, list[Record]]:
    """Read a plain archive in memory, all but its signature.

    Raises:
        InvalidArgumentError: it is no archive.
        DataLossError: it is damaged.
    """
    length = header_bytes(data)
    if length is None or len(data) < length:
        raise damaged("it is cut")
    reader = ArchiveReader(data[:length])
    header = decode_header(data[:length])
    records = list(reader.feed(data[length:]))
    reader.finish()
    return header, reader, records
