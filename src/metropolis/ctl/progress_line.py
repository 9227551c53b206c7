# SPDX-License-Identifier: Apache-2.0
"""How far something is: one line that changes on a terminal, few plain lines elsewhere."""

from typing import Final, Self, TextIO

_PLAIN_STEP: Final = 25
_BAR_CHARS: Final = 30


class ProgressLine:
    """Shows bytes of a known total. As a context manager it leaves no half line behind."""

    def __init__(self, stream: TextIO, *, title: str, total_bytes: int) -> None:
        """Begin; nothing is shown before the first report.

        Args:
            title: What is being done, e.g. "Writing stick.img".
        """
        self._stream = stream
        self._title = title
        self._total = total_bytes
        self._is_live = stream.isatty()
        self._shown = -1 if self._is_live else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live and self._shown >= 0:
            self._print("\r\x1b[K")

    def report(self, done_bytes: int) -> None:
        """Show how many bytes are done."""
        percent = 100 * done_bytes // self._total
        if self._is_live and percent != self._shown:
            filled = _BAR_CHARS * percent // 100
            bar = "#" * filled + "." * (_BAR_CHARS - filled)
            self._print(f"\r{self._title} [{bar}] {percent:3} %")
            self._shown = percent
        elif not self._is_live and percent // _PLAIN_STEP > self._shown // _PLAIN_STEP:
            self._print(f"{self._title}: {percent} %\n")
            self._shown = percent

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
