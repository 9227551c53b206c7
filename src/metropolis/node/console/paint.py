# SPDX-License-Identifier: Apache-2.0
"""From one screen to the next: the control sequences of a Linux console, only for changed rows."""

from collections.abc import Mapping, Sequence
from typing import Final

from metropolis.node.console.screen import Row, Style

# No cursor, no blanking of the screen after ten minutes: a failure must stay to be seen.
BEGIN: Final = "\x1b[?25l\x1b[9;0]\x1b[0m\x1b[2J"
END: Final = "\x1b[?25h\x1b[0m\r\n"
_STYLES: Final[Mapping[Style, str]] = {
    Style.PLAIN: "\x1b[0m",
    Style.BAR: "\x1b[0;7m",
    Style.TROUBLE: "\x1b[0;1;31m",
}


def paint(before: Sequence[Row], now: Sequence[Row]) -> str:
    """Return what turns the screen `before` into `now`; nothing is assumed if sizes differ."""
    parts = [] if len(before) == len(now) else [BEGIN]
    known = before if len(before) == len(now) else ()
    for number, row in enumerate(now):
        if number < len(known) and known[number] == row:
            continue
        parts.append(f"\x1b[{number + 1};1H{_STYLES[row.style]}{row.text}")
    return "".join(parts)
