# SPDX-License-Identifier: Apache-2.0
"""Follows the log of a simulated machine: into the trace, and with an eye for bugs."""

import builtins
import re
from collections import deque
from collections.abc import Callable
from typing import Final

from metropolis.sim.loop import note
from metropolis.supervision import LogReader, LogReaderClosedError, Missed, Severity
from metropolis.supervision.entries import Entry, LeveledEntry

LINES_KEPT_MAX: Final = 400  # of each machine, for the report of a failure

# How the supervision tree words the death of a runnable by an error of Python's own.
_DEATH: Final = re.compile(r"runnable returned error: (?:.*; )?([A-Z]\w+)(?:: |$)")


def is_bug(entry: Entry) -> bool:
    """Tell whether a runnable died of an error that no machine and no network can cause.

    Operating errors are expected, and so is `OSError`: disks are slow, full and without power.
    """
    if not isinstance(entry, LeveledEntry) or entry.severity is not Severity.FATAL:
        return False
    found = _DEATH.match(entry.lines[0])
    kind = getattr(builtins, found.group(1), None) if found else None
    return isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, OSError)


async def follow_log(
    name: str, reader: LogReader, *, kept: deque[str], report_bug: Callable[[BaseException], None]
) -> None:
    """Note every leveled entry until the reader is closed."""
    while True:
        try:
            entry = await reader.receive()
        except LogReaderClosedError:
            return
        if isinstance(entry, LeveledEntry):
            line = f"{name}: {entry.dn} {entry.severity.letter} {' | '.join(entry.lines)}"
            kept.append(line)
            note(line)
            if is_bug(entry):
                report_bug(AssertionError(line))
        elif isinstance(entry, Missed):
            note(f"{name}: {entry.count} log entries missed")
