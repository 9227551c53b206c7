# SPDX-License-Identifier: Apache-2.0
"""What a backup says of itself in clear.

    magic 18 bytes │ version u8 │ length u32 │ BackupHeader (protobuf)

All numbers are big-endian.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.backup_pb2 import BackupHeader
from metropolis.base.errors import DataLossError, InvalidArgumentError

MAGIC: Final = b"METROPOLIS BACKUP\n"
VERSION: Final = 1
FINGERPRINT_BYTES: Final = 32
HEADER_BYTES_MAX: Final = 4096  # it holds three hashes or numbers and a domain name

_FIXED: Final = struct.Struct(">BI")
FIXED_BYTES: Final = len(MAGIC) + _FIXED.size
TAKE_ANOTHER: Final = "Use another backup: `metroctl cluster backup list` names those there are."


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a backup is.

    Attributes:
        generation: Counts the backups of a cluster, over restores, too; from 1.
        revision: Of the store; everything in the backup is as of this one.
        created: In UTC, whole seconds.
        ca_fingerprint: SHA-256 of the cluster CA's certificate (DER).
        recovery_key_fingerprint: SHA-256 of the X25519 public key that can open it.
    """

    generation: int
    revision: int
    created: datetime
    ca_fingerprint: bytes
    cluster_domain: str
    recovery_key_fingerprint: bytes

    def __post_init__(self) -> None:
        if self.generation < 1 or self.revision < 1:
            raise ValueError("generation and revision count from 1")
        if len(self.ca_fingerprint) != FINGERPRINT_BYTES:
            raise ValueError("the fingerprint of the CA has a wrong length")
        if len(self.recovery_key_fingerprint) != FINGERPRINT_BYTES:
            raise ValueError("the fingerprint of the recovery key has a wrong length")

    def to_wire(self) -> BackupHeader:
        """Return it as a message."""
        message = BackupHeader(
            generation=self.generation,
            revision=self.revision,
            ca_fingerprint=self.ca_fingerprint,
            cluster_domain=self.cluster_domain,
            recovery_key_fingerprint=self.recovery_key_fingerprint,
        )
        message.created.FromSeconds(int(self.created.timestamp()))
        return message


def from_wire(message: BackupHeader) -> Header:
    """Understand a message.

    Raises:
        ValueError: a field is missing or impossible.
    """
    return Header(
        generation=message.generation,
        revision=message.revision,
        created=message.created.ToDatetime(tzinfo=UTC),
        ca_fingerprint=message.ca_fingerprint,
        cluster_domain=message.cluster_domain,
        recovery_key_fingerprint=message.recovery_key_fingerprint,
    )


def encode_header(header: Header) -> bytes:
    """Return the beginning of a backup, magic included."""
    body = header.to_wire().SerializeToString(deterministic=True)
    assert len(body) <= HEADER_BYTES_MAX, "the domain name is too long"
    return MAGIC + _FIXED.pack(VERSION, len(body)) + body


def header_bytes(data: bytes | bytearray) -> int | None:
    """Return how many bytes the beginning of a backup has; None while too few are known to tell.

    Raises:
        InvalidArgumentError: it is no backup, or one of a version that we do not know.
        DataLossError: it is damaged.
    """
    known = bytes(data[: len(MAGIC)])
    if not MAGIC.startswith(known):
        raise InvalidArgumentError(
            "this is no backup of a cluster",
            remedy="Name a file that `metroctl cluster backup create` or `fetch` has written.",
        )
    if len(data) < FIXED_BYTES:
        return None
    version, length = _FIXED.unpack_from(data, len(MAGIC))
    if version != VERSION:
        raise InvalidArgumentError(
            f"this backup has format version {version}, this program knows version {VERSION}",
            remedy="Use the program of the release that wrote the backup, or a newer one.",
        )
    if not 0 < length <= HEADER_BYTES_MAX:
        raise damaged("its header has an impossible length")
    return FIXED_BYTES + int(length)


def decode_header(data: bytes) -> Header:
    """Read the beginning of a backup, exactly as long as `header_bytes` says.

    Raises:
        InvalidArgumentError: it is no backup, or one of a version that we do not know.
        DataLossError: it is damaged.
    """
    if header_bytes(data) != len(data):
        raise damaged("its header is cut")
    try:
        return from_wire(BackupHeader.FromString(data[FIXED_BYTES:]))
    except (DecodeError, ValueError, OverflowError) as cause:
        raise damaged("its header cannot be read") from cause


def damaged(reason: str) -> DataLossError:
    """Return what a damaged backup is refused with."""
    return DataLossError(f"this backup is damaged: {reason}", remedy=TAKE_ANOTHER)
