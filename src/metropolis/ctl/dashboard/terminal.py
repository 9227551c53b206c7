# SPDX-License-Identifier: Apache-2.0
"""The operator's terminal: taken over while the page is shown, and given back as it was.

Nothing here waits for a line that does not move, but for a second at the very end: what cannot be
written yet is kept, and no further screen is taken until it is gone.
"""

import contextlib
import os
import select
import termios
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from metropolis.ctl.dashboard.paint import COLORS, NO_COLORS, paint
from metropolis.ctl.dashboard.screen import Screen

# Alternate screen, no cursor, and no new line where the last column was written.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
# CAN first: it ends a sequence that was cut off.
_LEAVE: Final = "\x18\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_READ_BYTES: Final = 4096
_LEAVING_S: Final = 1.0  # that a line may take for the last bytes
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
        """Look at a terminal; nothing is changed yet. Enter and leave it once.

        Args:
            keyboard: File descriptor of a terminal, read from.
            display: File descriptor of a terminal, written to.
            encoding: Its character set.
        """
        self.keyboard = keyboard
        self.display = _reopened(display)
        self._palette = COLORS if has_colors else NO_COLORS
        self._encoding = encoding
        self._shown: Screen | None = None
        self._before: list[int | list[bytes | int]] | None = None
        self._pending = b""

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
        self._pending = b""
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
            while self._pending and select.select([], [self.display], [], _LEAVING_S)[1]:
                self.flush()
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(self.keyboard, termios.TCIFLUSH)  # keys that were meant for us
                termios.tcsetattr(self.keyboard, termios.TCSANOW, self._before)
        os.close(self.display)

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        try:
            size = os.get_terminal_size(self.display)
        except OSError:
            return _SIZE_UNKNOWN
        return (size.columns, size.lines) if size.columns and size.lines else _SIZE_UNKNOWN

    def read(self) -> bytes:
        """Return what was typed; empty when the terminal hung up."""
        try:
            return os.read(self.keyboard, _READ_BYTES)
        except OSError:
            return b""

    def show(self, screen: Screen) -> bool:
        """Write what changed since the last screen, as far as the line takes it.

        Returns:
            Whether the line took the screen before; else nothing was done.

        Raises:
            OSError: the terminal hung up.
        """
        if not self.flush():
            return False
        text = paint(self._shown, screen, self._palette)
        self._shown = screen
        if text:
            self._write(text)
        return True

    def flush(self) -> bool:
        """Write what is kept, as far as the line takes it; say whether nothing is left.

        Raises:
            OSError: the terminal hung up.
        """
        with contextlib.suppress(BlockingIOError):
            while self._pending:
                self._pending = self._pending[os.write(self.display, self._pending) :]
        return not self._pending

    def forget(self) -> None:
        """Draw everything next time: the terminal was resized, or something wrote on it."""
        self._shown = None

    def _write(self, text: str) -> None:
        self._pending += text.encode() if self._is_utf8 else self._plain(text)
        self.flush()

    @property
    def _is_utf8(self) -> bool:
        return self._encoding.lower().replace("-", "").replace("_", "") == "utf8"

    def _plain(self, text: str) -> bytes:
        return text.translate(_PLAIN).encode(self._encoding, "replace")


def _reopened(descriptor: int) -> int:
    """Return the terminal opened once more, so that only our own writing does not wait."""
    try:
        name = os.ttyname(descriptor)
        return os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it has no name here, as in some containers: then writing may wait
        return os.dup(descriptor)


def wants_color(environment: Mapping[str, str]) -> bool:
    """Whether the operator wants colours: https://no-color.org."""
    return not environment.get("NO_COLOR")
