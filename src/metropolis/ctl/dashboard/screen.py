# SPDX-License-Identifier: Apache-2.0
"""A screen as values: lines of text with meanings, and the cells that they fill. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from metropolis.ctl.dashboard.cells import char_columns, cut, fit
from metropolis.ctl.text_table import visible


class Style(Enum):
    """What a piece of text means; `paint` decides how that looks."""

    NORMAL = "normal"
    DIM = "dim"
    HEADER = "header"
    ALARM = "alarm"
    TITLE = "title"
    FOCUS = "focus"
    SELECTED = "selected"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a line in one style."""

    text: str
    style: Style = Style.NORMAL


Line = Sequence[Span]
Screen = Sequence[Line]  # from the top; what is missing at the right and below is blank
Cell = tuple[str, Style]  # a character; "" right of a wide one
BLANK: Cell = (" ", Style.NORMAL)


def line(
    *parts: str | Span, width: int, style: Style = Style.NORMAL, is_full: bool = False
) -> Line:
    """Put parts side by side and cut them to a width; nothing in them moves the cursor.

    Args:
        style: Of the parts that are plain text.
        is_full: Fill the rest of the width, in the style.
    """
    spans: list[Span] = []
    left = width
    for part in parts:
        span = Span(text=part, style=style) if isinstance(part, str) else part
        text = cut(_without_marks(visible(span.text)), left)
        left -= _columns(text)
        spans.append(Span(text=text, style=span.style))
    if is_full and left > 0:
        spans.append(Span(text=fit("", left), style=style))
    return tuple(span for span in spans if span.text)


def cells(row: Line) -> list[Cell]:
    """Return what is in each column of a line, without blanks at its end."""
    found: list[Cell] = []
    for span in row:
        for char in span.text:
            found.append((char, span.style))
            found += [("", span.style)] * (char_columns(char) - 1)
    while found and found[-1] == BLANK:
        found.pop()
    return found


def text_of(screen: Screen) -> str:
    """Return a screen as text, a line per row, without blanks at the ends."""
    return "".join("".join(span.text for span in row).rstrip() + "\n" for row in screen)


def _without_marks(text: str) -> str:
    """Leave out what takes no column of its own: terminals differ in what it attaches to."""
    return text if text.isascii() else "".join(char for char in text if char_columns(char))


def _columns(text: str) -> int:
    return sum(map(char_columns, text))
