# SPDX-License-Identifier: Apache-2.0
"""Bytes of a terminal -> keys. Pure.

Understood are the sequences that xterm, the Linux console, screen and tmux send. What is not
understood is dropped as a whole, so that no rest of a sequence is taken for letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_ESCAPE: Final = 0x1B
_SEQUENCE_BYTES_MAX: Final = 32  # longer ones are noise


class Key(StrEnum):
    """Keys that are no character."""

    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    HOME = "home"
    END = "end"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    TAB = "tab"
    BACK_TAB = "back tab"
    ENTER = "enter"
    ESCAPE = "escape"
    BACKSPACE = "backspace"
    INTERRUPT = "interrupt"  # Ctrl-C or Ctrl-D, where the terminal makes no signal of it
    REDRAW = "redraw"  # Ctrl-L


@dataclass(frozen=True, slots=True, kw_only=True)
class Char:
    """A printable character."""

    text: str


KeyPress = Key | Char

_FINALS: Final = {
    "A": Key.UP,
    "B": Key.DOWN,
    "C": Key.RIGHT,
    "D": Key.LEFT,
    "H": Key.HOME,
    "F": Key.END,
    "Z": Key.BACK_TAB,
}
_TILDES: Final = {
    "1": Key.HOME,
    "7": Key.HOME,
    "4": Key.END,
    "8": Key.END,
    "5": Key.PAGE_UP,
    "6": Key.PAGE_DOWN,
}
_CONTROLS: Final = {
    0x03: Key.INTERRUPT,
    0x04: Key.INTERRUPT,
    0x08: Key.BACKSPACE,
    0x09: Key.TAB,
    0x0A: Key.ENTER,
    0x0C: Key.REDRAW,
    0x0D: Key.ENTER,
    0x7F: Key.BACKSPACE,
}


def decode(data: bytes, *, is_complete: bool) -> tuple[Sequence[KeyPress], bytes]:
    """Return the keys in the data, and the unfinished sequence at its end.

    Args:
        is_complete: Nothing more came for a while: an ESC that is still alone is the key.
    """
    keys: list[KeyPress] = []
    rest = data
    while rest:
        if rest[0] == _ESCAPE:
            length, key = _escape(rest, is_complete=is_complete)
        elif rest[0] < 0x20 or rest[0] == 0x7F:  # noqa: PLR2004  # ASCII control characters
            length, key = 1, _CONTROLS.get(rest[0])
        else:
            length, key = _character(rest, is_complete=is_complete)
        if length == 0:
            break
        if key is not None:
            keys.append(key)
        rest = rest[length:]
    return keys, rest


def _escape(data: bytes, *, is_complete: bool) -> tuple[int, KeyPress | None]:
    """Return the length of the sequence in front and its key; 0: it is not all there."""
    if len(data) == 1:
        return (1, Key.ESCAPE) if is_complete else (0, None)
    if data[1] == ord("O"):
        if len(data) == 2:  # noqa: PLR2004  # ESC O
            return (2, None) if is_complete else (0, None)
        return 3, _FINALS.get(chr(data[2]))
    if data[1] != ord("["):
        return 1, Key.ESCAPE
    for index in range(2, min(len(data), _SEQUENCE_BYTES_MAX)):
        if 0x40 <= data[index] <= 0x7E:  # noqa: PLR2004  # ECMA-48: final bytes of a sequence
            parameters = data[2:index].decode("ascii", "replace")
            final = chr(data[index])
            if final == "~":
                return index + 1, _TILDES.get(parameters.split(";")[0])
            return index + 1, _FINALS.get(final)
    is_noise = is_complete or len(data) >= _SEQUENCE_BYTES_MAX
    return (len(data), None) if is_noise else (0, None)


def _character(data: bytes, *, is_complete: bool) -> tuple[int, KeyPress | None]:
    """Return the length of the UTF-8 character in front, and the character."""
    first = data[0]
    length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4  # noqa: PLR2004  # UTF-8
    if len(data) < length and not is_complete:
        return 0, None
    try:
        text = data[:length].decode()
    except UnicodeDecodeError:
        return 1, None
    return length, Char(text=text) if text.isprintable() else None
