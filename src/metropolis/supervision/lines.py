# SPDX-License-Identifier: Apache-2.0
"""Cutting a byte stream into lines of bounded length."""

from collections.abc import Iterator

RAW_LINE_BYTES_MAX = 1024  # of a raw entry, as upstream's clients know it
SLACK_BYTES = 4096  # kept beyond the limit, so that a secret across the limit is still recognised


class LineBuffer:
    """Splits what is fed on newlines. A partial line is invisible until its newline, or `flush`.

    Keeps at most `keep_bytes` of a line and counts the rest: memory is bounded, and the original
    length stays known. A carriage return before the newline is dropped.
    """

    __slots__ = ("_keep_bytes", "_length", "_partial")

    def __init__(self, *, keep_bytes: int = RAW_LINE_BYTES_MAX + SLACK_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self._partial = b""
        self._length = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield each line that `data` completes: its kept bytes and its original length."""
        *complete, rest = data.split(b"\n")
        for part in complete:
            self._extend(part)
            yield self._take()
        self._extend(rest)

    def flush(self) -> Iterator[tuple[bytes, int]]:
        """Yield the line that never got its newline, if there is one."""
        if self._length:
            yield self._take()

    def _extend(self, part: bytes) -> None:
        self._partial += part[: self._keep_bytes - len(self._partial)]
        self._length += len(part)

    def _take(self) -> tuple[bytes, int]:
        line, length = self._partial, self._length
        self._partial, self._length = b"", 0
        if length == len(line) and line.endswith(b"\r"):
            return line[:-1], length - 1
        return line, length
