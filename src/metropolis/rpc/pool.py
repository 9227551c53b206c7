# SPDX-License-Identifier: Apache-2.0
"""Channels by endpoint, kept while somebody uses them or may soon."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from metropolis.base.errors import UnavailableError
from metropolis.rpc.channel import DialledChannel
from metropolis.rpc.transport import Endpoint


@dataclass(slots=True)
class _Held:
    channel: DialledChannel
    users: int = 0


class ChannelPool:
    """At most one channel per endpoint.

    Args:
        dial: Makes a channel.
        is_wanted: Whether the channel to an endpoint is kept although nobody uses it.
    """

    def __init__(
        self, dial: Callable[[Endpoint], DialledChannel], *, is_wanted: Callable[[Endpoint], bool]
    ) -> None:
        self._dial = dial
        self._is_wanted = is_wanted
        self._held: dict[Endpoint, _Held] = {}
        self._is_closed = False

    @asynccontextmanager
    async def use(self, endpoint: Endpoint) -> AsyncGenerator[DialledChannel, None]:
        """Lend the channel to an endpoint.

        Raises:
            UnavailableError: the pool was closed.
        """
        if self._is_closed:
            raise UnavailableError("the channel to the cluster was closed")
        held = self._held.get(endpoint)
        if held is None:
            held = self._held[endpoint] = _Held(self._dial(endpoint))
        held.users += 1
        try:
            yield held.channel
        finally:
            held.users -= 1
            await self._close_if_idle(endpoint)

    async def sweep(self) -> None:
        """Close what is neither used nor wanted; stop connecting to what is not wanted.

        A machine that lost its power answers no attempt to connect, and calls must not wait for
        one that has a successor.
        """
        for endpoint, held in list(self._held.items()):
            if not self._is_wanted(endpoint):
                held.channel.give_up_connecting()
            await self._close_if_idle(endpoint)

    async def close(self) -> None:
        """Close every channel, also those in use."""
        self._is_closed = True
        held, self._held = self._held, {}
        for one in held.values():
            await one.channel.close()

    async def _close_if_idle(self, endpoint: Endpoint) -> None:
        held = self._held.get(endpoint)
        if held is not None and not held.users and not self._is_wanted(endpoint):
            del self._held[endpoint]
            await held.channel.close()
