# SPDX-License-Identifier: Apache-2.0
"""Text tables for people. Pure.

Every cell is left-justified to the widest of its column and three spaces.
"""

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


def render(headers: Row, rows: Iterable[Row], *, paint: Paint | None = None) -> str:
    """Render a table, with a newline at its end and no trailing spaces.

    Args:
        headers: Printed in upper case.
        rows: Each as long as the headers.
        paint: Applied to every cell but the headers, after its width was measured.
    """
    lines = [
        tuple(header.upper() for header in headers),
        *(tuple(map(visible, row)) for row in rows),
    ]
    widths = [max(map(len, column)) + GAP_COLUMNS for column in zip(*lines, strict=True)]
    texts: list[str] = []
    for number, line in enumerate(lines):
        cells: list[str] = []
        for cell, width in zip(line, widths, strict=True):
            text = paint(cell) if paint is not None and number else cell
            cells.append(text + " " * (width - len(cell)))
        texts.append("".join(cells).rstrip())
    return "\n".join(texts) + "\n"
