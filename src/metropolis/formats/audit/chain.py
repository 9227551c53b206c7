# SPDX-License-Identifier: Apache-2.0
"""Records and heads of the chain: their bytes, their hashes, and how a record joins the chain.

A record is stored as its protobuf message, fields in the order of their numbers: one message has
one sequence of bytes.
"""

import hashlib
import re
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.audit_pb2 import Head, Record
from metropolis.base.errors import DataLossError, InvalidArgumentError

HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)  # what the first record names as the one before it
RECORD_BYTES_MAX: Final = 1024  # so a full log has a known size
_HEAD_TEXT: Final = re.compile(r"([0-9]{1,20}):([0-9a-f]{64})")
_TEXT_FIELDS: Final = ("sentence", "object", "method", "code", "leader")


def hash_of(stored: bytes) -> bytes:
    """Return the hash that the next record, or the head, names this one by."""
    return hashlib.sha256(stored).digest()


def encode(record: Record) -> bytes:
    """Return the bytes to store; texts that are too long are cut, the sentence first."""
    stored = record.SerializeToString(deterministic=True)
    if len(stored) > RECORD_BYTES_MAX:
        stored = _cut(record).SerializeToString(deterministic=True)
    assert len(stored) <= RECORD_BYTES_MAX, "every field has a limit"
    return stored


def decode(stored: bytes) -> Record:
    """Read a record.

    Raises:
        DataLossError: these bytes were never written as one. The text quotes no content.
    """
    try:
        record = Record.FromString(stored)
    except DecodeError as cause:
        raise _damaged("it cannot be read") from cause
    if record.SerializeToString(deterministic=True) != stored:
        raise _damaged("its bytes are not in the form in which records are written")
    return record


def extend(head: Head, record: Record) -> tuple[Head, bytes]:
    """Put a record at the end of the chain; return the new end and the bytes to store."""
    linked = Record()
    linked.CopyFrom(record)
    linked.sequence = head.sequence + 1
    linked.previous = head.hash if head.sequence else GENESIS
    stored = encode(linked)
    return Head(sequence=linked.sequence, hash=hash_of(stored), first=head.first or 1), stored


def head_text(head: Head) -> str:
    """Write an end of the chain on one line, to be kept elsewhere: `SEQUENCE:HASH`."""
    return f"{head.sequence}:{(head.hash or GENESIS).hex()}"


def parse_head(text: str) -> Head:
    """Read what `head_text` wrote.

    Raises:
        InvalidArgumentError: it is none.
    """
    found = _HEAD_TEXT.fullmatch(text.strip().lower())
    if found is None or int(found[1]) >= 1 << 64:
        raise InvalidArgumentError(
            f"{text.strip()[:80]!r} is no head of the audit log",
            remedy="Give a line that `metroctl audit head` printed, such as 1234:9f86d081….",
        )
    return Head(sequence=int(found[1]), hash=bytes.fromhex(found[2]))


def _cut(record: Record) -> Record:
    """Shorten texts, from the least important on, until the record fits."""
    cut = Record()
    cut.CopyFrom(record)
    for name in _TEXT_FIELDS:
        excess = len(cut.SerializeToString(deterministic=True)) - RECORD_BYTES_MAX
        if excess <= 0:
            break
        setattr(cut, name, shortened(getattr(cut, name), excess))
    return cut


def shortened(text: str, excess_bytes: int) -> str:
    """Cut at least so many bytes off a text, and say so with an ellipsis; 8 bytes are left."""
    encoded = text.encode("utf-8", errors="replace")
    kept = max(8, len(encoded) - excess_bytes - len("…".encode()))
    if kept >= len(encoded):
        return text
    return encoded[:kept].decode("utf-8", errors="ignore") + "…"


def _damaged(problem: str) -> DataLossError:
    return DataLossError(
        f"a record of the audit log is damaged: {problem}",
        remedy="Run `metroctl audit verify`, which names it.",
    )
