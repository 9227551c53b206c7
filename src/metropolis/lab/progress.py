# SPDX-License-Identifier: Apache-2.0
"""Saying what is awaited: one live line on a terminal, plain lines elsewhere."""

import time
from typing import Final, TextIO

_CLEAR_LINE: Final = "\r\x1b[K"
_LINE_CHARS_MAX: Final = 100
_ELAPSED_FROM_S: Final = 2.0  # shorter waits are not worth a number


class Progress:
    """Talks on standard error. `awaiting` may be called as often as one likes."""

    def __init__(self, stream: TextIO, *, title: str) -> None:
        """Talk about one command.

        Args:
            title: Begins every line.
        """
        self._stream = stream
        self._title = title
        self._is_live = stream.isatty()
        self._awaited = ""
        self._since_s = 0.0

    def awaiting(self, what: str) -> None:
        """Say what is awaited, if that is news; on a terminal also for how long by now."""
        if what != self._awaited:
            self._awaited = what
            self._since_s = time.monotonic()
            if not self._is_live:
                self._print(f"{self._title}: waiting for {what} …\n")
        if self._is_live:
            elapsed_s = time.monotonic() - self._since_s
            seconds = f" {elapsed_s:.0f} s" if elapsed_s >= _ELAPSED_FROM_S else ""
            line = f"{self._title}: waiting for {what} …{seconds}"
            self._print(_CLEAR_LINE + line[:_LINE_CHARS_MAX])

    def say(self, text: str) -> None:
        """Say what was done; it stays on the screen."""
        self.clear()
        self._print(f"{self._title}: {text}\n")

    def clear(self) -> None:
        """Take the live line away, before somebody else prints."""
        if self._is_live and self._awaited:
            self._print(_CLEAR_LINE)
        self._awaited = ""

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
