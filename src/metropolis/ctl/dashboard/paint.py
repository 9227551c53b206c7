# SPDX-License-Identifier: Apache-2.0
"""Two screens -> the fewest bytes that turn one into the other. Pure.

Only sequences of ECMA-48 that every terminal since the VT100 has: CUP, SGR, EL, ED.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from metropolis.ctl.dashboard.screen import BLANK, Cell, Screen, Style, cells

CLEAR: Final = "\x1b[0m\x1b[2J"
_RESET: Final = "\x1b[0m"
_ERASE_TO_END: Final = "\x1b[K"
_WORTH_MOVING: Final = 8  # moving the cursor costs as many bytes as this many characters
_WORTH_ERASING: Final = 4

Palette = Mapping[Style, str]  # parameters of SGR

COLORS: Final[Palette] = {
    Style.NORMAL: "",
    Style.DIM: "2",
    Style.HEADER: "7",
    Style.ALARM: "1;37;41",
    Style.TITLE: "36",
    Style.FOCUS: "1;36",
    Style.SELECTED: "7",
    Style.GOOD: "32",
    Style.WARNING: "33",
    Style.BAD: "1;31",
}
NO_COLORS: Final[Palette] = {
    Style.NORMAL: "",
    Style.DIM: "",
    Style.HEADER: "7",
    Style.ALARM: "1;7",
    Style.TITLE: "",
    Style.FOCUS: "1",
    Style.SELECTED: "7",
    Style.GOOD: "",
    Style.WARNING: "",
    Style.BAD: "1",
}


def paint(before: Screen | None, after: Screen, palette: Palette) -> str:
    """Return what to write.

    Args:
        before: What is on the screen; None: nobody knows.
    """
    out = [CLEAR] if before is None else []
    for row in range(max(len(after), len(before or ()))):
        old = cells(before[row]) if before is not None and row < len(before) else []
        new = cells(after[row]) if row < len(after) else []
        if old != new:
            out += _paint_row(row, old, new, palette)
    return "".join(out)


def _paint_row(
    row: int, old: Sequence[Cell], new: Sequence[Cell], palette: Palette
) -> Sequence[str]:
    width = max(len(old), len(new))
    old = [*old, *[BLANK] * (width - len(old))]
    padded = [*new, *[BLANK] * (width - len(new))]
    out: list[str] = []
    for start, stop in _runs(old, padded):
        out.append(f"\x1b[{row + 1};{start + 1}H")
        is_tail = stop - len(new) >= _WORTH_ERASING
        out += _paint_cells(padded[start : min(stop, len(new)) if is_tail else stop], palette)
        if is_tail:
            out.append(_ERASE_TO_END)
    return out


def _runs(old: Sequence[Cell], new: Sequence[Cell]) -> Sequence[tuple[int, int]]:
    """Return the ranges of columns that differ; those that are near each other as one."""
    runs: list[tuple[int, int]] = []
    for column, (was, now) in enumerate(zip(old, new, strict=True)):
        if was == now:
            continue
        start = column
        while start and (not new[start][0] or not old[start][0]):  # the right half of a wide one
            start -= 1
        stop = column + 1
        while stop < len(new) and (not new[stop][0] or not old[stop][0]):
            stop += 1
        if runs and start - runs[-1][1] < _WORTH_MOVING:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _paint_cells(row: Sequence[Cell], palette: Palette) -> Sequence[str]:
    out: list[str] = []
    for style, group in groupby(row, key=lambda cell: cell[1]):
        text = "".join(cell[0] for cell in group)
        codes = palette[style]
        out.append(f"\x1b[{codes}m{text}{_RESET}" if codes else text)
    return out
