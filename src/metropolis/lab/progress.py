# SPDX-License-Identifier: Apache-2.0
"""Saying what is awaited: one live line on a terminal, plain lines elsewhere."""

import asyncio
import contextlib
import shutil
import time
from types import TracebackType
from typing import Final, Self, TextIO

_CLEAR_LINE: Final = "\r\x1b[K"
_LINE_CHARS_MAX: Final = 140
_ELAPSED_FROM_S: Final = 2.0  # shorter waits are not worth a number
_TICK_S: Final = 0.5


class Progress:
    """Talks on standard error. `awaiting` may be called as often as one likes.

    As a context manager it leaves no live line behind, so that an error stands on its own.
    """

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
        self._ticking: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def awaiting(self, what: str) -> None:
        """Say what is awaited, if that is news; on a terminal also for how long by now."""
        if what != self._awaited:
            self._awaited = what
            self._since_s = time.monotonic()
            if not self._is_live:
                self._print(f"{self._title}: waiting for {what} …\n")
        if self._is_live:
            self._draw()
            if self._ticking is None:
                self._tick_later()

    def say(self, text: str) -> None:
        """Say what was done; it stays on the screen."""
        self.clear()
        self._print(f"{self._title}: {text}\n")

    def clear(self) -> None:
        """Take the live line away, before somebody else prints."""
        if self._is_live and self._awaited:
            self._print(_CLEAR_LINE)
        self._awaited = ""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _draw(self) -> None:
        elapsed_s = time.monotonic() - self._since_s
        seconds = f" {elapsed_s:.0f} s" if elapsed_s >= _ELAPSED_FROM_S else ""
        room = min(_LINE_CHARS_MAX, shutil.get_terminal_size().columns) - len(seconds) - 1
        line = f"{self._title}: waiting for {self._awaited} …"
        self._print(_CLEAR_LINE + line[:room] + seconds)

    def _tick_later(self) -> None:
        """Keep the seconds going while a loop runs; without one the line just stands there."""
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            self._ticking = loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._draw()
        self._tick_later()

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
