# SPDX-License-Identifier: Apache-2.0
"""How many columns of a terminal text takes, and how to make it take so many. Pure."""

import unicodedata
from typing import Final

ELLIPSIS: Final = "…"


def char_columns(char: str) -> int:
    """Return 0, 1 or 2."""
    if char.isascii():
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def columns(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(char_columns, text))


def cut(text: str, width: int) -> str:
    """Return the text, ending in an ellipsis where it is too long."""
    if columns(text) <= width:
        return text
    if width <= 0:
        return ""
    kept: list[str] = []
    left = width - 1
    for char in text:
        left -= char_columns(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept) + ELLIPSIS


def fit(text: str, width: int) -> str:
    """Return the text in exactly so many columns."""
    short = cut(text, width)
    return short + " " * (width - columns(short))


def wrap(text: str, width: int, *, indent: str = "") -> list[str]:
    """Break a text into lines that fit, at blanks where there are any.

    Args:
        indent: Put before every line but the first; narrower than `width`.
    """
    lines: list[str] = []
    bare = text.lstrip(" ")
    line = " " * min(len(text) - len(bare), width - 1)
    for word in bare.split(" "):
        longer = f"{line} {word}" if line.strip() else line + word
        if columns(longer) <= width:
            line = longer
            continue
        if line.strip():
            lines.append(line)
            line = indent + word
        else:
            line = longer
        while columns(line) > width:
            head = _head(line, width)
            lines.append(head)
            line = indent + line[len(head) :]
    return [*lines, line] if line.strip() or not lines else lines


def _head(text: str, width: int) -> str:
    """Return the longest beginning that fits, one character at least."""
    left = width
    for index, char in enumerate(text):
        left -= char_columns(char)
        if left < 0:
            return text[: max(index, 1)]
    return text
