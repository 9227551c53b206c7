# SPDX-License-Identifier: Apache-2.0
"""What a node prints: its log, as it happens, until a person reads it over the API."""

from collections.abc import Callable

from metropolis.supervision import Context, Missed, ReadOptions
from metropolis.supervision.log_text import format_entry


async def console(ctx: Context, *, write: Callable[[str], None]) -> None:
    """Write every entry of the log tree as one or more lines."""
    reader = ctx.log_tree.read("", ReadOptions(with_children=True, backlog=None, stream=True))
    try:
        for entry in reader.backlog:
            write(format_entry(entry))
        ctx.healthy()
        while True:
            item = await reader.receive()
            if isinstance(item, Missed):
                write(f"({item.count} entries not printed)")
            else:
                write(format_entry(item))
    finally:
        reader.close()
