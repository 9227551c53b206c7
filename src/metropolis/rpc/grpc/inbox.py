# SPDX-License-Identifier: Apache-2.0
"""What one HTTP/2 stream has received, and how it can fail."""

import asyncio
from collections.abc import Callable
from typing import Final

# What is not acknowledged yet, of windows of 64 KiB at least. h2 takes 4 us to note that a beat was
# read, and tells the peer nothing before much more was.
_HELD_BYTES: Final = 1024


class StreamFailure(Exception):  # noqa: N818 - says what happened; becomes an error of ours above
    """A stream ended without an orderly end.

    Attributes:
        was_unseen: The peer certainly did not act on the stream.
        is_refusal: The peer refused our certificate.
    """

    def __init__(self, reason: str, *, was_unseen: bool = False, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.was_unseen = was_unseen
        self.is_refusal = is_refusal

    def again(self) -> "StreamFailure":
        """Return what to raise: a stream that kept what was raised would keep the stacks, too.

        Those hold the stream: a cycle, which only the garbage collector can undo.
        """
        return StreamFailure(str(self), was_unseen=self.was_unseen, is_refusal=self.is_refusal)


class TruncatedError(Exception):
    """The stream ended in the middle of what was being read."""


class Inbox:
    """Received bytes of one stream. Reading opens the peer's window again; one reader at a time.

    All but a little of it: who reads nothing but small messages acknowledges some of them at once.
    """

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._data = bytearray()
        self._unacknowledged = 0
        self._has_ended = False
        self._failure: StreamFailure | None = None
        self._waiter: asyncio.Future[None] | None = None

    def add(self, data: bytes, flow_controlled_bytes: int) -> None:
        self._data += data
        self._unacknowledged += flow_controlled_bytes
        self._wake()

    def eof(self) -> None:
        self._has_ended = True
        self._wake()

    def fail(self, failure: StreamFailure) -> None:
        self._failure = failure
        self._wake()

    async def read(self, count: int) -> bytes | None:
        """Return exactly `count` bytes, or None at the end. Cancel-safe.

        Raises:
            StreamFailure: the stream failed, and `count` bytes had not arrived.
            TruncatedError: the stream ended with fewer bytes.
        """
        data = self._data
        while len(data) < count:
            if self._has_ended:
                if data:
                    raise TruncatedError
                return None
            if self._failure is not None:
                raise self._failure.again()
            if data or self._unacknowledged >= _HELD_BYTES:  # the rest may not fit the window
                self._give_back(self._unacknowledged)
            assert self._waiter is None, "one reader at a time"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = bytes(data[:count])
        del data[:count]
        if self._unacknowledged - len(data) >= _HELD_BYTES:
            self._give_back(self._unacknowledged - len(data))
        return taken

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come, so that reading waits for nothing."""
        return self._has_ended

    def unacked_size(self) -> int:
        """Hand over what was never acknowledged; grpclib asks when a stream is released."""
        count, self._unacknowledged = self._unacknowledged, 0
        return count

    def _give_back(self, count: int) -> None:
        if count > 0 and self._failure is None:
            self._unacknowledged -= count
            self._acknowledge(count)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
