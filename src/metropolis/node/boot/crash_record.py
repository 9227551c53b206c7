# SPDX-License-Identifier: Apache-2.0
"""What the kernel wrote down before it died, from the firmware's memory: logged once, then erased.

A verified disk that was changed ends in a panic and a restart: this is where the reason is kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from metropolis.supervision import Context

PLACE: Final = Path("/sys/fs/pstore")
LINES_MAX: Final = 40  # of one record; the newest say why
_KIND: Final = "dmesg-"


async def crash_records(ctx: Context, *, place: Path = PLACE) -> None:
    """Log the records of the last crash."""
    ctx.healthy()
    for name, lines in take_records(place):
        ctx.log.error("The kernel crashed before this start (%s):\n%s", name, "\n".join(lines))
    ctx.done()


def take_records(place: Path) -> Sequence[tuple[str, Sequence[str]]]:
    """Return (name, last lines) of every record and erase it: firmware has room for few."""
    found: list[tuple[str, Sequence[str]]] = []
    try:
        paths = sorted(place.iterdir())
    except OSError:
        return found
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            path.unlink()
        except OSError:
            continue
        if path.name.startswith(_KIND):
            found.append((path.name, text.splitlines()[-LINES_MAX:]))
    return found
