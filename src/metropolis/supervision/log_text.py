# SPDX-License-Identifier: Apache-2.0
"""Log entries as text, for people.

The full form, one line per line of the entry (no year, no zone: nodes run in UTC):

    root.enrolment                   I0228 13:30:45.996960 cluster_bootstrap.py:48] Mounting...
    root.time                        R 2022-02-28T13:30:45Z chronyd version 4.1 starting

The concise form, for narrow consoles: the name shortened, the time and the place left out.

           k8s apiserver I Hello there!
                         | The second line of the same entry.
"""

import re
import textwrap
from collections.abc import Mapping

from metropolis.supervision.entries import Entry, LeveledEntry, RawEntry

DN_COLUMNS = 32
INVALID = "<INVALID>"  # stands for bytes that are no text
ELLIPSIS = "..."
WRAP_COLUMNS_MIN = 10  # below this, wrapping makes a text longer, not more readable

# (least console width, columns of the name); 0 stands for an unlimited width.
_CONCISE_NAME_COLUMNS = ((80, 20), (60, 16))
_SHORT: Mapping[str, str] = {
    "controlplane": "cplane",
    "map-cluster-membership": "map-membership",
    "map_cluster_membership": "map-membership",
    "cluster-membership": "cluster",
    "cluster_membership": "cluster",
    "controller-manager": "controllers",
    "controller_manager": "controllers",
    "networking": "net",
    "network": "net",
    "interfaces": "ifaces",
    "kubernetes": "k8s",
}
_NOT_TEXT = re.compile("[\ud800-\udfff]+")
_CONTROL = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"
}


def text_of(data: str | bytes) -> str:
    """Return valid Unicode text; every run of bytes that is none becomes `<INVALID>`."""
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return text if text.isascii() else _NOT_TEXT.sub(INVALID, text)


def format_entry(entry: Entry) -> str:
    """Render the full form, without a newline at the end."""
    name = f"{entry.dn:<{DN_COLUMNS}} "
    if isinstance(entry, RawEntry):
        return f"{name}R {_raw_text(entry)}"
    time = entry.timestamp.strftime("%m%d %H:%M:%S.%f")
    prefix = f"{name}{entry.severity.letter}{time} {entry.file}:{entry.line}] "
    return "\n".join(prefix + _visible(line) for line in entry.lines)


def format_concise(entry: Entry, *, width: int) -> str:
    """Render the concise form for a console of `width` columns (0: as long as it gets)."""
    columns = next(
        (columns for least, columns in _CONCISE_NAME_COLUMNS if width >= least or width == 0), 0
    )
    name = f"{shorten(entry.dn, columns=columns):>{columns}} " if columns else ""
    if isinstance(entry, LeveledEntry):
        letter, lines = entry.severity.letter, [_visible(line) for line in entry.lines]
    else:
        letter, lines = "R", [_raw_text(entry)]
    room = width - len(name) - 2 if width else 0
    wrapped = [part for line in lines if line.strip() for part in _wrap(line, columns=room)]
    first, rest = f"{name}{letter} ", f"{' ' * len(name)}| "
    return "\n".join((rest if i else first) + part for i, part in enumerate(wrapped or [""]))


def shorten(dn: str, *, columns: int) -> str:
    """Abbreviate a DN for a narrow column; what is still too long loses its beginning."""
    parts = [_SHORT.get(part, part) for part in dn.split(".")]
    if parts[0] == "root" and len(parts) > 1:
        parts = parts[1:]
    if parts[0] == "role" and len(parts) > 1:
        parts = [parts[1], parts[-1]] if len(parts) > 2 else parts[1:]  # noqa: PLR2004  # role.X.Z
    text = " ".join(parts)
    return text if len(text) <= columns else ELLIPSIS + text[len(text) - columns + len(ELLIPSIS) :]


def _raw_text(entry: RawEntry) -> str:
    return _visible(text_of(entry.data)) + (ELLIPSIS if entry.is_truncated else "")


def _visible(line: str) -> str:
    """Spell control characters out: a log line must not move the reader's cursor."""
    return line if line.isprintable() else text_of(line).translate(_CONTROL)


def _wrap(line: str, *, columns: int) -> list[str]:
    if columns < WRAP_COLUMNS_MIN:
        return [line]
    return textwrap.wrap(
        line, columns, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )
