# SPDX-License-Identifier: Apache-2.0
"""`metroctl` on a real pseudo-terminal, with an emulator that shows what a person would see."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyte

WAIT_S = 20.0
ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"
Size = tuple[int, int]  # columns, rows


class Program:
    """A running program and its terminal.

    Attributes:
        output: Every byte that it wrote.
    """

    def __init__(
        self, arguments: Sequence[str], *, size: Size, environment: Mapping[str, str]
    ) -> None:
        self._master, self._slave = pty.openpty()
        self._emulator = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._emulator)
        self.output = b""
        termios.tcsetwinsize(self._slave, (size[1], size[0]))
        self._settings = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            ["setsid", "-c", sys.executable, "-m", "metropolis.ctl.metroctl", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "".join(row.rstrip() + "\n" for row in self._emulator.display)

    @property
    def colors(self) -> set[str]:
        cells = (cell for row in self._emulator.buffer.values() for cell in row.values())
        return {color for cell in cells for color in (cell.fg, cell.bg)} - {"default"}

    @property
    def settings(self) -> Any:
        return termios.tcgetattr(self._slave)

    @property
    def is_given_back(self) -> bool:
        """Whether the terminal is as it was: its settings, its screen, its cursor."""
        return (
            self.settings == self._settings
            and self.output.rfind(LEFT) > self.output.rfind(ENTERED) >= 0
            and not self._emulator.cursor.hidden
        )

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, size: Size) -> None:
        self._emulator.resize(size[1], size[0])
        termios.tcsetwinsize(self._slave, (size[1], size[0]))

    def stall(self) -> None:
        """Let the line take nothing any more."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def go_on(self) -> None:
        """Let the line move again."""
        termios.tcflow(self._slave, termios.TCOON)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Read what the program writes until something holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"this stays on the screen:\n{self.text}"
            self._read(min(left_s, 0.1))

    def wait_text(self, text: str) -> None:
        self.wait(lambda: text in self.text)

    def wait_end(self) -> int:
        """Wait until the program ended; return its exit status."""
        self.wait(lambda: self.process.poll() is not None)
        while self._read(0.0):
            pass
        assert self.process.returncode is not None
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        data = os.read(self._master, 65536)
        self.output += data
        self._stream.feed(data)
        return True


@contextmanager
def on_terminal(
    arguments: Sequence[str], *, size: Size = (80, 24), environment: Mapping[str, str] | None = None
) -> Generator[Program]:
    """Run `metroctl` on a terminal of its own."""
    program = Program(arguments, size=size, environment=environment or {})
    try:
        yield program
    finally:
        program.close()
