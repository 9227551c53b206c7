# SPDX-License-Identifier: Apache-2.0
"""The operator's terminal: taken over while the page is shown, and given back as it was."""

import contextlib
import os
import termios
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from metropolis.ctl.dashboard.paint import COLORS, NO_COLORS, paint
from metropolis.ctl.dashboard.screen import Screen

# Alternate screen, no cursor, and no new line where the last column was written.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_READ_BYTES: Final = 4096
_SIZE_UNKNOWN: Final = (80, 24)
_LOCAL_FLAGS: Final = 3  # termios: iflag, oflag, cflag, lflag, ispeed, ospeed, cc
_CONTROL_CHARS: Final = 6
_DISABLED: Final = b"\0"  # _POSIX_VDISABLE on Linux
# Where the terminal's character set lacks what the page is drawn with.
_PLAIN: Final = str.maketrans({"─": "-", "═": "=", "…": "~", "▸": ">", "·": "."})


class Terminal:
    """A terminal that shows screens; a context manager."""

    def __init__(
        self, keyboard: int, display: int, *, has_colors: bool, encoding: str = "utf-8"
    ) -> None:
        """Look at a terminal; nothing is changed yet.

        Args:
            keyboard: File descriptor of a terminal, read from.
            display: File descriptor of a terminal, written to.
            encoding: Its character set.
        """
        self.keyboard = keyboard
        self._display = display
        self._palette = COLORS if has_colors else NO_COLORS
        self._encoding = encoding
        self._shown: Screen | None = None
        self._before: list[int | list[bytes | int]] | None = None
        self.written_bytes = 0  # for measurements

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self.keyboard)
        attributes = termios.tcgetattr(self.keyboard)
        flags, characters = attributes[_LOCAL_FLAGS], attributes[_CONTROL_CHARS]
        assert isinstance(flags, int)
        assert isinstance(characters, list)
        attributes[_LOCAL_FLAGS] = flags & ~(termios.ICANON | termios.ECHO)
        # Ctrl-C stays a signal: it also drops what a slow line has not sent yet. Neither Ctrl-Z
        # nor Ctrl-\ may leave a shell behind on the alternate screen.
        for name in (termios.VSUSP, termios.VQUIT):
            characters[name] = _DISABLED
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        termios.tcsetattr(self.keyboard, termios.TCSADRAIN, attributes)
        try:
            self._write(_ENTER)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        """Give the terminal back; one that hung up needs nothing."""
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.keyboard, termios.TCSAFLUSH, self._before)

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        try:
            size = os.get_terminal_size(self._display)
        except OSError:
            return _SIZE_UNKNOWN
        return (size.columns, size.lines) if size.columns and size.lines else _SIZE_UNKNOWN

    def read(self) -> bytes:
        """Return what was typed; empty when the terminal hung up."""
        try:
            return os.read(self.keyboard, _READ_BYTES)
        except OSError:
            return b""

    def show(self, screen: Screen) -> None:
        """Write what changed since the last screen.

        Raises:
            OSError: the terminal hung up.
        """
        text = paint(self._shown, screen, self._palette)
        self._shown = screen
        if text:
            self._write(text)

    def forget(self) -> None:
        """Draw everything next time: the terminal was resized, or something wrote on it."""
        self._shown = None

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "surrogatepass") if self._is_utf8 else self._plain(text)
        self.written_bytes += len(data)
        while data:
            data = data[os.write(self._display, data) :]

    @property
    def _is_utf8(self) -> bool:
        return self._encoding.lower().replace("-", "").replace("_", "") == "utf8"

    def _plain(self, text: str) -> bytes:
        return text.translate(_PLAIN).encode(self._encoding, "replace")


def wants_color(environment: Mapping[str, str]) -> bool:
    """Whether the operator wants colours: https://no-color.org."""
    return not environment.get("NO_COLOR")
