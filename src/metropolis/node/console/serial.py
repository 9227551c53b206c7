# SPDX-License-Identifier: Apache-2.0
"""Prints on the serial line: facts when they change, and of the log what an operator wants."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from metropolis.node.console.facts import Facts, announcements
from metropolis.supervision import Context, Entry, LeveledEntry, Missed, ReadOptions, Severity
from metropolis.supervision.log_text import format_concise
from metropolis.supervision.names import is_within

COLUMNS: Final = 120
LOOK_S: Final = 0.5  # for changed facts
# What these log is only printed from this severity on; raw lines of programs never are.
QUIET: Final[Mapping[str, Severity]] = {
    "machine.kernel": Severity.FATAL,
    "root.role.controlplane.consensus.etcd": Severity.ERROR,
    "supervisor": Severity.WARNING,
    "library": Severity.WARNING,
}


def is_printed(entry: Entry) -> bool:
    """Tell whether an entry belongs on a serial line. Pure."""
    if not isinstance(entry, LeveledEntry):
        return False
    least = next(
        (severity for dn, severity in QUIET.items() if is_within(entry.dn, dn)), Severity.INFO
    )
    return entry.severity >= least


async def serial(ctx: Context, *, write: Callable[[str], None], facts: Callable[[], Facts]) -> None:
    """Print for ever. The backlog comes first: this starts after the boot has begun."""
    reader = ctx.log_tree.read("", ReadOptions(with_children=True, backlog=None, stream=True))
    first = facts()
    write(f"{first.product} ({first.variant})")
    try:
        for entry in reader.backlog:
            if is_printed(entry):
                write(format_concise(entry, width=COLUMNS))
        ctx.healthy()
        async with asyncio.TaskGroup() as group:
            group.create_task(_announce(write, facts))
            while True:
                item = await reader.receive()
                if isinstance(item, Missed):
                    write(f"({item.count} log entries not printed)")
                elif is_printed(item):
                    write(format_concise(item, width=COLUMNS))
    finally:
        reader.close()


async def _announce(write: Callable[[str], None], facts: Callable[[], Facts]) -> None:
    before: Facts | None = None
    while True:
        now = facts()
        for line in announcements(before, now):
            write(line)
        before = now
        await asyncio.sleep(LOOK_S)
