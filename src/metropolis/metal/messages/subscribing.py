# SPDX-License-Identifier: Apache-2.0
"""The other end of a stream of messages: what an agent in a partition runs.

async def handle(message: pb.SubscribeResponse) -> None: ...

await subscribe(channel, handle)       # for ever, over any number of connections
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from metropolis.api import metal_messages_pb2 as pb
from metropolis.api.rpc_metal_messages import MessageService
from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    UnavailableError,
)
from metropolis.rpc.channel import Channel, ClientStream

LOG: Final = logging.getLogger("metropolis.metal.messages")
RECONNECT_S: Final = 3.0
SILENCE_MAX_S: Final = 20.0  # four signs of life

MessageStream = ClientStream[pb.SubscribeRequest, pb.SubscribeResponse]
Handler = Callable[[pb.SubscribeResponse], Awaitable[None]]


class Subscribing:
    """Reads messages, and has each of them done once as long as this process lives.

    Args:
        handle: Does one message. What it raises ends the stream, and the message comes again.
        done: The last one that was done before, by whoever remembers that.
        remember: Called with each that is done, before that is acknowledged.
    """

    def __init__(
        self,
        channel: Channel,
        handle: Handler,
        *,
        topic: str = "",
        done: int | None = None,
        remember: Callable[[int], None] = lambda _sequence: None,
    ) -> None:
        self._channel = channel
        self._handle = handle
        self._topic = topic
        self._done = done
        self._remember = remember

    async def run(self) -> None:
        """Subscribe for ever; whatever goes wrong is tried again."""
        while True:
            try:
                await self._follow()
            except FailedPreconditionError as error:
                LOG.warning("begins from what is left: %s", error)
                self._done = None
            except MetropolisError as error:
                LOG.info("subscribes again: %s", error)
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        start = pb.Start(topic=self._topic, resume_after=self._done)
        async with self._channel.open(MessageService.SUBSCRIBE) as stream:
            await stream.send(pb.SubscribeRequest(start=start))
            while (message := await _receive(stream)) is not None:
                if message.sequence:
                    await self._take(stream, message)

    async def _take(self, stream: MessageStream, message: pb.SubscribeResponse) -> None:
        if self._done is None or message.sequence > self._done:
            await self._handle(message)
            self._done = message.sequence
            self._remember(message.sequence)
        acknowledge = pb.Acknowledge(sequence=message.sequence)
        await stream.send(pb.SubscribeRequest(acknowledge=acknowledge))


async def _receive(stream: MessageStream) -> pb.SubscribeResponse | None:
    try:
        async with asyncio.timeout(SILENCE_MAX_S):
            return await stream.receive()
    except TimeoutError:
        raise UnavailableError(
            f"nothing was heard for {SILENCE_MAX_S:g} s", remedy="Connect again."
        ) from None
