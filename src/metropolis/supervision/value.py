# SPDX-License-Identifier: Apache-2.0
"""Watchable values: the newest value, never a queue.

A slow watcher skips what it missed and sees the newest value; nothing is ever buffered. A value
that is set again to the same thing is news: whoever sets decides what is a change.

    setter ──set──▶ Value ──▶ Watcher.receive()    each watcher remembers which version it saw
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Unset(enum.Enum):
    UNSET = enum.auto()


class UnsetError(LookupError):
    """The value was asked for before anybody set it."""


class Value(Generic[T]):
    """One variable that many may watch. Belongs to one event loop."""

    __slots__ = ("_value", "_version", "_waiting")

    def __init__(self, initial: T | _Unset = _Unset.UNSET) -> None:
        self._value: T | _Unset = initial
        self._version = 0 if initial is _Unset.UNSET else 1
        self._waiting: dict[asyncio.Future[None], None] = {}

    @property
    def is_set(self) -> bool:
        """Whether there is a value at all."""
        return self._version > 0

    @property
    def version(self) -> int:
        """How often the value was set; 0 when never."""
        return self._version

    @property
    def current(self) -> T:
        """The newest value.

        Raises:
            UnsetError: nobody has set it yet.
        """
        if self._value is _Unset.UNSET:
            raise UnsetError("the value was never set")
        return self._value

    def set(self, value: T) -> None:
        """Replace the value and wake every watcher."""
        self._value = value
        self._version += 1
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def watch(self) -> "Watcher[T]":
        """Return a watcher that has seen nothing: it receives the present value first."""
        return Watcher(self)

    async def wait_for(self, predicate: Callable[[T], bool]) -> T:
        """Wait until the newest value satisfies `predicate`, and return it."""
        return await self.watch().wait_for(predicate)

    async def wait_newer(self, version: int) -> None:
        """Wait until the value was set more than `version` times. Cancel-safe."""
        while self._version <= version:
            future = asyncio.get_running_loop().create_future()
            self._waiting[future] = None
            try:
                await future
            finally:
                self._waiting.pop(future, None)


class Watcher(Generic[T]):
    """One view of a `Value`. Needs no closing: while nobody waits on it, it costs nothing."""

    __slots__ = ("_is_waiting", "_seen", "_source")

    def __init__(self, source: Value[T]) -> None:
        self._source = source
        self._seen = 0
        self._is_waiting = False

    async def receive(self) -> T:
        """Wait for a value not yet received here; return the newest. Cancel-safe, one caller."""
        assert not self._is_waiting, "two callers wait on one watcher"
        self._is_waiting = True
        try:
            await self._source.wait_newer(self._seen)
        finally:
            self._is_waiting = False
        self._seen = self._source.version
        return self._source.current

    async def wait_for(self, predicate: Callable[[T], bool]) -> T:
        """Receive until a value satisfies `predicate`; values that do not are skipped."""
        while True:
            value = await self.receive()
            if predicate(value):
                return value
