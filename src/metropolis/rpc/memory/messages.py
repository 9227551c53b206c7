# SPDX-License-Identifier: Apache-2.0
"""Messages of one call under way: sent and not yet consumed, arrived and not yet read."""

import asyncio
from collections import deque
from typing import Final, TypeVar, final

from google.protobuf.message import DecodeError, Message

from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    ResourceExhaustedError,
)
from metropolis.rpc.channel import MESSAGE_BYTES_MAX
from metropolis.rpc.memory import frames
from metropolis.rpc.memory.connection import End

WINDOW_BYTES: Final = 1 << 20  # what a sender may be ahead of the reader, as the real one's window
SEND_S: Final = 1e-5  # encoding takes a moment; an endless sender must not stop time

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Decode a message.

    Raises:
        InvalidArgumentError: these bytes are not a message of that kind.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(
            f"the message is not a valid {kind.DESCRIPTOR.full_name}",
            remedy="Check that both sides use the same protocol definitions.",
        ) from error


def too_large(length: int) -> ResourceExhaustedError:
    """Say that a message of `length` bytes is over the limit."""
    return ResourceExhaustedError(
        f"a message of {length} bytes is larger than the limit of {MESSAGE_BYTES_MAX} bytes",
        remedy="Send or ask for less at a time.",
    )


@final
class Outbox:
    """Sends messages of one call as fast as the other side consumes them."""

    def __init__(self, end: End, call_id: int) -> None:
        self._end = end
        self._call_id = call_id
        self._ahead_bytes = 0
        self._failure: MetropolisError | None = None
        self._moved = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Send one message; wait while the reader is too far behind.

        Raises:
            ResourceExhaustedError: it is larger than the other side would take.
            MetropolisError: the call is over.
        """
        await self.send_data(message.SerializeToString())

    async def send_data(self, data: bytes) -> None:
        """As `send`, of a message that is encoded."""
        if len(data) > MESSAGE_BYTES_MAX:
            raise too_large(len(data))
        while self._failure is None and self._ahead_bytes >= WINDOW_BYTES:
            self._moved.clear()
            await self._moved.wait()
        if self._failure is not None:
            raise self._failure
        self._ahead_bytes += len(data)
        self._end.send(frames.Message(call_id=self._call_id, data=data, credit=self._credit))
        await asyncio.sleep(SEND_S)

    def fail(self, error: MetropolisError) -> None:
        """The call is over: nobody may send, nobody need wait."""
        if self._failure is None:
            self._failure = error
            self._moved.set()

    def _credit(self, count: int) -> None:
        self._ahead_bytes -= count
        self._moved.set()


@final
class Inbox:
    """Messages that arrived, then the end: plain, or with an error.

    Attributes:
        error: With which the call ended, None before the end and after a plain one.
    """

    def __init__(self) -> None:
        self._messages: deque[frames.Message] = deque()
        self._is_over = False
        self.error: MetropolisError | None = None
        self._moved = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Nothing more will arrive."""
        return self._is_over

    def put(self, message: frames.Message) -> None:
        """Take a message from the network; after the end it is ignored."""
        if not self._is_over:
            self._messages.append(message)
            self._moved.set()

    def end(self, error: MetropolisError | None = None, *, is_urgent: bool = False) -> None:
        """Nothing more arrives; the first reason stands. Urgent: unread messages are dropped."""
        if self._is_over:
            return
        self._is_over = True
        self.error = error
        if is_urgent:
            self._messages.clear()
        self._moved.set()

    async def receive(self) -> bytes | None:
        """Return the next message or None after the last. Cancel-safe.

        Raises:
            MetropolisError: the call failed.
        """
        while not self._messages:
            if self.error is not None:
                raise self.error
            if self._is_over:
                return None
            self._moved.clear()
            await self._moved.wait()
        message = self._messages.popleft()
        message.credit(len(message.data))
        return message.data
