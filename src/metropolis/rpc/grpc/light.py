# SPDX-License-Identifier: Apache-2.0
"""Lighter twins of what libraries give every connection and stream. There may be thousands.

A deque takes 0.6 KiB even when it is empty; of a connection with four streams there were 37.
"""

import asyncio
from typing import Any

from h2.settings import Settings


class LightEvent(asyncio.Event):
    """An event with room for no waiter until there is one."""

    def __init__(self) -> None:  # not the base class's, which makes a deque
        self._value = False
        # The base class appends to it, removes from it and walks through it, and no more.
        self._waiters: Any = []


class _Values(list[int]):
    """What h2 keeps of one setting: the present value, then those that await their turn."""

    def popleft(self) -> int:
        return self.pop(0)


def lighten(settings: Settings) -> Settings:
    """Let settings, all of them known by now, take as little as possible; returns them."""
    held: Any = settings._settings  # noqa: SLF001 - of h2, which has no other way  # pyright: ignore[reportPrivateUsage]
    for code, values in held.items():
        held[code] = _Values(values)
    return settings
