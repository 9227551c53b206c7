# SPDX-License-Identifier: Apache-2.0
"""The supervision tree, the log tree, and watchable values.

Every long-lived activity of a node is a named *runnable* in one tree; its name is also the name
of its log. A runnable says when it is healthy, fails by raising, and is started again by the tree.

                 root                          DN "root"
                 ├── network                   DN "root.network"
                 │     └── dhcp                DN "root.network.dhcp"
                 └── role ─┬─ heartbeat        a group: when one fails, the other is
                           └─ status           cancelled and both start again

    NEW ──healthy()──▶ HEALTHY ──done(), return──▶ DONE
     └───────┴── raise, or return without done() ──▶ DEAD ──back-off──▶ NEW
     └───────┴── cancelled, and stopped ───────────▶ CANCELED ───────▶ NEW

Axioms (each has a test in tests/unit/supervision):

1. Children are added only while their parent is NEW; names match `[a-z0-9_]{1,64}` entirely.
2. `healthy()` is allowed once, from NEW; `done()` once, from HEALTHY. Anything else is a bug and
   ends the runnable. DONE is reached when the runnable returns.
3. Any exception is a failure, `AssertionError` and `SystemExit` included, logged at severity F
   under the runnable's DN. `KeyboardInterrupt` ends the program.
4. A failure cancels everything below the runnable, and its siblings of the same group, finished
   ones included. Parents and other groups go on.
5. A cancelled subtree starts again, as a whole, only after everything in it has ended.
6. A DEAD runnable waits first: 0.5 s, x1.5 each time, +-50 %, at most 60 s. The wait shrinks back
   only after 10 s of continuous health. CANCELED and DONE ones wait for nothing.
7. A runnable that is cancelled and still runs 5 s later is named in the log of DN `supervisor`
   with what it awaits. (A runnable that never awaits stops everything, this report included.)
8. A healthy runnable whose inputs changed raises `RestartRequestedError`: no failure, no wait.
9. The root is a runnable like any other.

The log tree holds *leveled* entries and *raw* lines of other programs, in bounded memory; readers
get a backlog and a stream through the same filters, and are told what they missed. A `Value` is
one variable that many may watch: the newest value, never a queue.

This room refuses to know what a cluster is, to spawn tasks outside the tree, and to hold a secret:
`LogTree.conceal` keeps known ones out of every journal.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metropolis.supervision.entries import (
        Entry,
        LeveledEntry,
        LeveledLine,
        Missed,
        RawEntry,
        Severity,
    )
    from metropolis.supervision.log_tree import Logger, LogTree, RawLogger
    from metropolis.supervision.reader import LogReader, LogReaderClosedError, ReadOptions
    from metropolis.supervision.status import (
        Observer,
        RestartRequestedError,
        RunnableStatus,
        State,
        TreeMisuseError,
    )
    from metropolis.supervision.tree import Context, Runnable, Supervisor
    from metropolis.supervision.value import UnsetError, Value, Watcher

__all__ = [
    "Context",
    "Entry",
    "LeveledEntry",
    "LeveledLine",
    "LogReader",
    "LogReaderClosedError",
    "LogTree",
    "Logger",
    "Missed",
    "Observer",
    "RawEntry",
    "RawLogger",
    "ReadOptions",
    "RestartRequestedError",
    "Runnable",
    "RunnableStatus",
    "Severity",
    "State",
    "Supervisor",
    "TreeMisuseError",
    "UnsetError",
    "Value",
    "Watcher",
]

_HOME = {
    **dict.fromkeys(
        ["Entry", "LeveledEntry", "LeveledLine", "Missed", "RawEntry", "Severity"], "entries"
    ),
    **dict.fromkeys(["LogTree", "Logger", "RawLogger"], "log_tree"),
    **dict.fromkeys(["LogReader", "LogReaderClosedError", "ReadOptions"], "reader"),
    **dict.fromkeys(
        ["Observer", "RestartRequestedError", "RunnableStatus", "State", "TreeMisuseError"],
        "status",
    ),
    **dict.fromkeys(["Context", "Runnable", "Supervisor"], "tree"),
    **dict.fromkeys(["UnsetError", "Value", "Watcher"], "value"),
}


def __getattr__(name: str) -> object:
    """Import on first use: command lines format log entries and must start without asyncio."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
