# SPDX-License-Identifier: Apache-2.0
"""Text tables for people. Pure.

Every cell is left-justified to the widest of its column and three spaces. Width is counted in
columns of a terminal, where some characters take two.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

GAP_COLUMNS: Final = 3

Row = Sequence[str]
Paint = Callable[[str], str]  # adds colour to a cell's text, leaving its width as it is


def visible(text: str) -> str:
    """Spell out what would move the cursor or span lines: the text may come from a stranger."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char.isspace() else f"\\x{ord(char):02x}"
        for char in text
    )


def width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(char) for char in text)


def _character_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def render(
    headers: Row, rows: Iterable[Row], *, paint: Paint | None = None, has_headers: bool = True
) -> str:
    """Render a table, with a newline at its end and no trailing spaces.

    Args:
        headers: Printed in upper case.
        rows: Each as long as the headers.
        paint: Applied to every cell but the headers, after its width was measured.
        has_headers: Whether the headers are printed.
    """
    lines = [tuple(map(visible, row)) for row in rows]
    if has_headers:
        lines.insert(0, tuple(header.upper() for header in headers))
    if not lines:
        return ""
    widths = [max(map(width, column)) + GAP_COLUMNS for column in zip(*lines, strict=True)]
    texts: list[str] = []
    for number, line in enumerate(lines):
        cells: list[str] = []
        for cell, columns in zip(line, widths, strict=True):
            is_header = has_headers and not number
            text = cell if paint is None or is_header else paint(cell)
            cells.append(text + " " * (columns - width(cell)))
        texts.append("".join(cells).rstrip())
    return "\n".join(texts) + "\n"
