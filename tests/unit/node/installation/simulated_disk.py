# SPDX-License-Identifier: Apache-2.0
"""A disk in memory whose power can be cut before, in the middle of, or after any operation.

Like a real one it may keep what was not flushed, lose it, reorder it, and tear it at sectors.
It is kept in pages, so that a test can copy and compare a hundred of them.
"""

import random
from typing import Final

SECTOR: Final = 512
PAGE: Final = 1 << 15
ZEROS: Final = bytes(PAGE)


class PowerCutError(Exception):
    """The disk has no power any more."""


class SimulatedDisk:
    """Bytes, and operations on them that are not yet durable."""

    def __init__(self, size_bytes: int, *, fill: bytes = b"\0") -> None:
        assert size_bytes % PAGE == 0
        page = fill * (PAGE // len(fill)) if any(fill) else ZEROS
        self.size_bytes = size_bytes
        self.durable = [page] * (size_bytes // PAGE)
        self.operations = 0
        self._cached = list(self.durable)
        self._pending: list[tuple[int, bytes | int]] = []  # offset, and data or a count of zeros
        self._operations_left: int | None = None
        self._choose = random.Random(0)

    def cut_power_at(self, operation: int, *, seed: int) -> None:
        """Lose power during the operation of this number, the next one being 0."""
        self._operations_left = operation
        self._choose = random.Random(seed)

    def restart(self) -> None:
        """Give it power again: what was not durable is gone."""
        self._operations_left = None
        self._pending = []
        self._cached = list(self.durable)

    def pread(self, size: int, offset: int) -> bytes:
        first = offset // PAGE
        pages = self._cached[first : (offset + size - 1) // PAGE + 1]
        start = offset - first * PAGE
        return b"".join(pages)[start : start + size]

    def pwrite(self, data: bytes, offset: int) -> None:
        self._operate((offset, data))

    def zero(self, offset: int, size: int) -> None:
        self._operate((offset, size))

    def flush(self) -> None:
        self._operate(None)

    def _operate(self, change: tuple[int, bytes | int] | None) -> None:
        if self._operations_left == 0:
            if change is not None:
                self._pending.append(change)
            self._lose_some()
            raise PowerCutError
        if self._operations_left is not None:
            self._operations_left -= 1
        self.operations += 1
        if change is not None:
            _put(self._cached, *change)
            self._pending.append(change)
            return
        for each in self._pending:
            _put(self.durable, *each)
        self._pending = []

    def _lose_some(self) -> None:
        """Make any part of what was not flushed durable, in any order, cut at sectors."""
        self._choose.shuffle(self._pending)
        for offset, change in self._pending:
            size = change if isinstance(change, int) else len(change)
            match self._choose.randrange(3):
                case 0:
                    size = 0
                case 1:
                    size = self._choose.randrange(size // SECTOR + 1) * SECTOR
                case _:
                    pass
            _put(self.durable, offset, size if isinstance(change, int) else change[:size])
        self._pending = []


def _put(pages: list[bytes], offset: int, change: bytes | int) -> None:
    size = change if isinstance(change, int) else len(change)
    assert offset + size <= len(pages) * PAGE
    at = 0
    while at < size:
        number, start = divmod(offset + at, PAGE)
        count = min(PAGE - start, size - at)
        piece = ZEROS[:count] if isinstance(change, int) else change[at : at + count]
        page = pages[number]
        pages[number] = piece if count == PAGE else page[:start] + piece + page[start + count :]
        at += count
