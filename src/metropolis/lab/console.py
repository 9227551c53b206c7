# SPDX-License-Identifier: Apache-2.0
"""What a machine prints, on disk and bounded: one file, and the one before it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_CONTROLS: Final = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]|\x1bc|[\x00-\x08\x0b-\x1f]")
CONSOLE_BYTES_MAX: Final = 4 << 20  # of the file that is written; the one before it is kept


def plain(text: str) -> str:
    """Return what a console says, without what would clear or colour a reader's terminal."""
    return _CONTROLS.sub("", text)


class ConsoleLog:
    """A file that lines are appended to; when it is full, it becomes `<name>.1`."""

    def __init__(self, path: Path, *, bytes_max: int = CONSOLE_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._descriptor = -1
        self._size_bytes = 0

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, given without newlines. A full disk loses them, and nothing else."""
        data = b"".join(line + b"\n" for line in lines)
        try:
            if self._descriptor < 0:
                self._open()
            if self._size_bytes and self._size_bytes + len(data) > self._bytes_max:
                self.close()
                self._path.rename(self._path.with_name(f"{self._path.name}.1"))
                self._open()
            self._size_bytes += os.write(self._descriptor, data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size_bytes = os.fstat(self._descriptor).st_size


class ConsoleReader:
    """Follows a console that somebody else writes, over the renaming of full files."""

    def __init__(self, path: Path) -> None:
        """Begin behind what is there now."""
        self._path = path
        self._inode, self._offset = _identity(path)

    def read(self) -> str:
        """Return what is new; empty when nothing is."""
        inode, size_bytes = _identity(self._path)
        text = ""
        if inode != self._inode:  # the full file has what we did not read of it
            text = _read_from(self._path.with_name(f"{self._path.name}.1"), self._offset)[0]
            self._inode, self._offset = inode, 0
        if size_bytes > self._offset:
            new, self._offset = _read_from(self._path, self._offset)
            text += new
        return text


def _identity(path: Path) -> tuple[int, int]:
    """Return inode and size; zeros while there is no such file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_size


def _read_from(path: Path, offset: int) -> tuple[str, int]:
    """Return what stands behind an offset, and the new offset."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return "", offset
    return data.decode("utf-8", errors="replace"), offset + len(data)


def last_lines(path: Path, count: int) -> Sequence[str]:
    """Return the newest lines of a console; none when it was never written."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-count:])
