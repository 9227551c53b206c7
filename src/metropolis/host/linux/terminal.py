# SPDX-License-Identifier: Apache-2.0
"""A terminal of this machine: raw keys in, control sequences out, never waiting for either."""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
import tty
from collections.abc import AsyncGenerator
from typing import Final, final

_SIZE: Final = struct.Struct("=4H")
_SIZE_UNKNOWN: Final = (25, 80)
_KEY_BYTES_MAX: Final = 64


@final
class LinuxTerminal:
    """Opened at once.

    Raises:
        OSError: there is no such terminal.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags)
        with contextlib.suppress(OSError, termios.error):
            tty.setraw(self._descriptor)

    def size(self) -> tuple[int, int]:
        """Rows and columns; 25 and 80 where the terminal does not know."""
        try:
            answer = fcntl.ioctl(self._descriptor, termios.TIOCGWINSZ, bytes(_SIZE.size))
        except OSError:
            return _SIZE_UNKNOWN
        rows, columns, _, _ = _SIZE.unpack(answer)
        return (rows, columns) if rows and columns else _SIZE_UNKNOWN

    def write(self, text: str) -> None:
        """Draw; what the terminal does not take now is dropped."""
        data = text.encode("utf-8", errors="replace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]

    async def keys(self) -> AsyncGenerator[bytes, None]:
        """Yield what is typed, as it comes."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    data = os.read(self._descriptor, _KEY_BYTES_MAX)
                except BlockingIOError:
                    continue
                if not data:
                    return
                yield data
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """Give it back."""
        os.close(self._descriptor)
