# SPDX-License-Identifier: Apache-2.0
"""Log entries as protobuf messages (`osbase.logtree.proto.LogEntry`), both ways.

Upstream's clients refuse an entry whose location is not `file:line` with exactly one colon, or
whose raw data is longer than its original length; text that is not UTF-8 cannot be sent at all.
"""

from datetime import UTC, datetime

from metropolis.api import logtree_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.supervision.entries import UNKNOWN_FILE, Entry, LeveledEntry, RawEntry, Severity
from metropolis.supervision.log_text import text_of
from metropolis.supervision.names import is_dn

_LINE_NUMBER_DIGITS_MAX = 9
_NEWER = "Use a client and a node of the same release."


def to_wire(entry: Entry) -> logtree_pb2.LogEntry:
    """Convert an entry to the message that carries it."""
    if isinstance(entry, RawEntry):
        data = text_of(entry.data)
        length = max(entry.original_length, len(data.encode()))
        # A truncated line must still look truncated after its bytes were spelled out.
        length += 1 if entry.is_truncated and length == len(data.encode()) else 0
        raw = logtree_pb2.LogEntry.Raw(data=data, original_length=length)
        return logtree_pb2.LogEntry(dn=text_of(entry.dn), raw=raw)
    file = text_of(entry.file).replace(":", "_") or UNKNOWN_FILE
    leveled = logtree_pb2.LogEntry.Leveled(
        lines=[text_of(line) for line in entry.lines],
        severity=logtree_pb2.LeveledLogSeverity.ValueType(entry.severity),
        location=f"{file}:{entry.line}",
    )
    leveled.timestamp.FromDatetime(entry.timestamp)
    return logtree_pb2.LogEntry(dn=text_of(entry.dn), leveled=leveled)


def from_wire(message: logtree_pb2.LogEntry) -> Entry:
    """Convert a message to the entry in it.

    Raises:
        InvalidArgumentError: it is no valid entry; the message says why.
    """
    if not is_dn(message.dn):
        raise _invalid("its name is not a DN")
    kind = message.WhichOneof("kind")
    if kind == "raw":
        data = message.raw.data.encode()
        if message.raw.original_length < len(data):
            raise _invalid("it is longer than its original length")
        return RawEntry(dn=message.dn, data=data, original_length=message.raw.original_length)
    if kind != "leveled":
        raise _invalid("it is neither leveled nor raw")
    return _leveled(message.dn, message.leveled)


def _leveled(dn: str, leveled: logtree_pb2.LogEntry.Leveled) -> LeveledEntry:
    file, colon, number = leveled.location.partition(":")
    is_number = number.isascii() and number.isdigit() and len(number) <= _LINE_NUMBER_DIGITS_MAX
    if not colon or not is_number:
        raise _invalid("its location is not file:line")
    if int(leveled.severity) not in map(int, Severity):
        raise _invalid("its severity is unknown")
    try:
        timestamp: datetime = leveled.timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as cause:
        raise _invalid("its time is out of range") from cause
    return LeveledEntry(
        dn=dn,
        lines=tuple(leveled.lines) or ("",),
        timestamp=timestamp,
        severity=Severity(leveled.severity),
        file=file,
        line=int(number),
    )


def _invalid(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid stream entry: {reason}", remedy=_NEWER)
