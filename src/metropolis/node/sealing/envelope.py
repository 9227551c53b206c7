# SPDX-License-Identifier: Apache-2.0
"""The form of the small files on the ESP: they say what they are, and whether they are whole.

    bytes 0-3    "MTPF"
    byte  4      version of this form, 1
    byte  5      kind: 0 plain, 1 sealed (a SealedContent)
    bytes 6-37   SHA-256 of bytes 4-5, the file's path, a zero byte, and the body
    bytes 38-    body

The checksum tells damage, not malice: it is the key of a sealed body that does that.
"""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from metropolis.base.errors import DataLossError, FailedPreconditionError

MAGIC: Final = b"MTPF"
VERSION: Final = 1
_CHECKSUM_BYTES: Final = 32
OVERHEAD_BYTES: Final = len(MAGIC) + 2 + _CHECKSUM_BYTES


class Kind(IntEnum):
    """What the body is."""

    PLAIN = 0
    SEALED = 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """A file that is whole."""

    kind: Kind
    body: bytes = field(repr=False)


def encode(path: str, envelope: Envelope) -> bytes:
    """Return the bytes of a file.

    Args:
        path: Where it is written; it is whole nowhere else.
    """
    tag = bytes([VERSION, envelope.kind])
    return MAGIC + tag + _checksum(tag, path, envelope.body) + envelope.body


def decode(path: str, data: bytes) -> Envelope:
    """Take a file apart.

    Raises:
        DataLossError: it is damaged, or another file than that of this path.
        FailedPreconditionError: a newer system wrote it.
    """
    tag, body = data[len(MAGIC) : len(MAGIC) + 2], data[OVERHEAD_BYTES:]
    whole = MAGIC + tag + _checksum(tag, path, body) + body
    if len(data) < OVERHEAD_BYTES or whole != data:
        raise DataLossError(f"{path} is damaged")
    if tag[0] != VERSION or tag[1] not in list(Kind):
        raise FailedPreconditionError(
            f"{path} has form {tag[0]}.{tag[1]}, which this system does not know",
            remedy="Start the newer system that wrote it: the other slot of this machine.",
        )
    return Envelope(Kind(tag[1]), body)


def _checksum(tag: bytes, path: str, body: bytes) -> bytes:
    return hashlib.sha256(tag + path.encode() + b"\0" + body).digest()
