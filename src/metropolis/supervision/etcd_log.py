# SPDX-License-Identifier: Apache-2.0
"""Lines as etcd prints them (one JSON object of zap each), parsed into leveled messages.

{"level":"info","ts":"2022-02-28T13:30:45.996Z","caller":"raft/raft.go:48","msg":"...","k":1}
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from metropolis.supervision.entries import UNKNOWN_FILE, LeveledLine, Severity
from metropolis.supervision.log_text import text_of

_SEVERITIES: Mapping[str, Severity] = {
    "debug": Severity.INFO,
    "info": Severity.INFO,
    "warn": Severity.WARNING,
    "error": Severity.ERROR,
    "dpanic": Severity.FATAL,
    "panic": Severity.FATAL,
    "fatal": Severity.FATAL,
}
_KNOWN_KEYS = ("level", "ts", "caller", "msg")
_LINE_NUMBER_DIGITS_MAX = 9


class EtcdLogParser:
    """Parses etcd's lines; fields beyond the message are appended as `key: json`, sorted."""

    line_bytes_max: ClassVar[int] = 8192

    def parse(self, line: bytes, *, now: datetime, is_truncated: bool) -> LeveledLine:
        """Understand one line; one that cannot be understood is logged as it is, with a note."""
        del now  # etcd prints whole times
        text = text_of(line)
        if is_truncated:
            return LeveledLine(text=f"Line too long to parse: {text}...")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return LeveledLine(text=f"Line that is no JSON: {text}")
        if not isinstance(fields, dict):
            return LeveledLine(text=f"Line that is no JSON object: {text}")
        return _leveled(cast("dict[str, Any]", fields))


def _leveled(fields: dict[str, Any]) -> LeveledLine:
    extras = [
        f"{key}: {json.dumps(fields[key], separators=(',', ':'), ensure_ascii=False)}"
        for key in sorted(fields)
        if key not in _KNOWN_KEYS
    ]
    message = str(fields.get("msg") or "")
    if extras:
        message = ", ".join([message or "<empty>", *extras])
    file, line = _caller(str(fields.get("caller") or ""))
    return LeveledLine(
        text=text_of(message),
        severity=_SEVERITIES.get(str(fields.get("level")), Severity.INFO),
        file=text_of(file),
        line=line,
        timestamp=_time(str(fields.get("ts"))),
    )


def _caller(caller: str) -> tuple[str, int]:
    path, _, number = caller.rpartition(":")
    is_number = number.isascii() and number.isdigit() and len(number) <= _LINE_NUMBER_DIGITS_MAX
    return (path.rpartition("/")[2] or UNKNOWN_FILE, int(number) if is_number else 0)


def _time(text: str) -> datetime | None:
    try:
        timestamp = datetime.fromisoformat(text)
        return timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
