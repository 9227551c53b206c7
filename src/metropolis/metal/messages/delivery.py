# SPDX-License-Identifier: Apache-2.0
"""The stream in which a partition reads its messages.

    subscriber ── start ──────────────────►  position in the database
               ◄─ 7, 8, 9 (in flight: 3) ──
               ── acknowledge 8 ─────────►   position 8, room for two more
               ◄─ 10, 11 ─────────────────
                  nothing for 30 s
               ◄─ 9, 10, 11 again ────────

Never more is under way than the subscriber asked for, and nothing is read from the database
before there is room, so a slow subscriber costs nothing but its stream.
"""

import asyncio
from functools import partial
from typing import Final

from metropolis.api import metal_messages_pb2 as pb
from metropolis.api.rpc_metal_messages import MessageService
from metropolis.base.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from metropolis.metal.messages.credentials import with_credentials
from metropolis.metal.messages.outbox import Message, acknowledge_up_to, begin, read_messages
from metropolis.metal.messages.subscribers import (
    SUBSCRIPTIONS,
    Subscriber,
    Subscription,
    read_subscriber,
)
from metropolis.metal.services.machines import write_again
from metropolis.metal.site import Site
from metropolis.metal.store import Reader, Transaction
from metropolis.metal.store.work import OUTBOX
from metropolis.metal.waiters import Waiters
from metropolis.rpc.channel import ServerStream, Services

IN_FLIGHT: Final = 10  # messages, unless the subscriber says otherwise
IN_FLIGHT_MAX: Final = 100
START_S: Final = 10.0  # to say what to read
KEEPALIVE_S: Final = 5.0
REDELIVER_AFTER_S: Final = 30.0
LOOK_AGAIN_S: Final = 60.0  # without having been woken
_SESSION_BYTES: Final = 16

MessageStream = ServerStream[pb.SubscribeRequest, pb.SubscribeResponse]


class _Delivery:
    """One stream.

    Args:
        position: The last message that is done.
    """

    def __init__(
        self,
        site: Site,
        stream: MessageStream,
        subscriber: Subscriber,
        *,
        session: str,
        position: int,
        in_flight_max: int,
    ) -> None:
        self._site = site
        self._stream = stream
        self._subscriber = subscriber
        self._session = session
        self._in_flight_max = in_flight_max
        self._noted = position  # in the database
        self._done = position  # as the subscriber said
        self._sent = position
        self._sent_ever = position
        self._again_s = 0.0  # when what is under way is sent again; loop time
        self._silent_since_s = 0.0
        self._has_ended = False

    async def receive(self, changed: asyncio.Event) -> None:
        """Take acknowledgements until the subscriber ends its half."""
        while (request := await self._stream.receive()) is not None:
            if request.WhichOneof("kind") != "acknowledge":
                raise InvalidArgumentError(
                    "only the first request says what to read",
                    remedy="Acknowledge messages, or open another stream.",
                )
            sequence = request.acknowledge.sequence
            if sequence > self._sent_ever:
                raise InvalidArgumentError(
                    f"acknowledge.sequence: {sequence} was never sent on this stream",
                    remedy="Acknowledge sequences as they were delivered.",
                )
            if sequence > self._done:
                self._done = sequence
                self._sent = max(self._sent, sequence)
                self._again_s = _now_s() + REDELIVER_AFTER_S
                changed.set()
        self._has_ended = True
        changed.set()

    async def send(self, changed: asyncio.Event) -> None:
        """Send messages as they come, until the subscriber has ended."""
        look_at_s = 0.0
        self._silent_since_s = _now_s()
        while True:
            changed.clear()
            await self._note()
            if self._has_ended:
                return
            if self._sent > self._done and _now_s() >= self._again_s:
                self._sent = self._done
            messages = await self._site.store.read(self._next)
            for message in messages:
                await self._send(message)
            if messages:
                continue
            look_at_s = _now_s() + LOOK_AGAIN_S
            await self._rest(changed, until_s=look_at_s)

    async def _rest(self, changed: asyncio.Event, *, until_s: float) -> None:
        """Send nothing but signs of life until there may be something to do."""
        while not changed.is_set() and _now_s() < until_s:
            alive_s = self._silent_since_s + KEEPALIVE_S
            again_s = self._again_s if self._sent > self._done else until_s
            wake_s = min(alive_s, again_s, until_s)
            try:
                async with asyncio.timeout(max(wake_s - _now_s(), 0.0)):
                    await changed.wait()
            except TimeoutError:
                if _now_s() >= again_s:
                    return
                if _now_s() >= alive_s:
                    await self._stream.send(pb.SubscribeResponse())
                    self._silent_since_s = _now_s()

    async def _next(self, reader: Reader) -> list[Message]:
        """Read what there is room for, as the subscriber may see it."""
        await self._check_session(reader)
        room = self._in_flight_max - (self._sent - self._done)
        if room <= 0:
            return []
        topic = self._subscriber.topic
        found = await read_messages(reader, topic, after=self._sent, limit=room)
        if not self._subscriber.sees_secrets:
            return found
        return [
            Message(
                topic=each.topic,
                sequence=each.sequence,
                sent=each.sent,
                payload=await with_credentials(
                    reader,
                    each.payload,
                    partition_id=self._subscriber.partition_id,
                    superuser_password=self._site.settings.superuser_password,
                ),
                missed=each.missed,
            )
            for each in found
        ]

    async def _send(self, message: Message) -> None:
        if self._sent <= self._done:
            self._again_s = _now_s() + REDELIVER_AFTER_S
        is_again = message.sequence <= self._sent_ever
        self._sent = max(self._sent, message.sequence)
        self._sent_ever = max(self._sent_ever, message.sequence)
        response = pb.SubscribeResponse(
            topic=message.topic,
            sequence=message.sequence,
            payload=message.payload,
            missed=message.missed,
            redelivered=is_again,
        )
        response.sent.FromDatetime(message.sent)
        await self._stream.send(response)
        self._silent_since_s = _now_s()

    async def _note(self) -> None:
        """Write down what is done; of many acknowledgements only the last."""
        done = self._done
        if done <= self._noted:
            return

        async def write(tx: Transaction) -> None:
            await self._check_session(tx)
            await acknowledge_up_to(
                tx,
                topic=self._subscriber.topic,
                consumer=self._subscriber.component,
                sequence=done,
            )

        await self._site.store.write(write, serial=False)
        self._noted = done

    async def _check_session(self, reader: Reader) -> None:
        found = await reader.lookup(SUBSCRIPTIONS, self._subscriber.subscription_id)
        if found is None or found.value.session != self._session:
            raise AbortedError(
                f"{self._subscriber.component} opened another stream, which replaces this one",
                remedy="Run one agent of a component in each partition.",
            )


class _Messages:
    def __init__(self, site: Site, waiters: Waiters) -> None:
        self._site = site
        self._waiters = waiters

    async def subscribe(self, stream: MessageStream) -> None:
        subscriber = read_subscriber(stream.peer.certificate)
        start = await _receive_start(stream)
        subscriber.check_topic(start.topic)
        session = self._site.entropy.token_bytes(_SESSION_BYTES).hex()
        position = await write_again(
            self._site.store,
            partial(
                _begin,
                subscriber=subscriber,
                session=session,
                resume_after=start.resume_after if start.HasField("resume_after") else None,
            ),
        )
        delivery = _Delivery(
            self._site,
            stream,
            subscriber,
            session=session,
            position=position,
            in_flight_max=min(start.in_flight_max or IN_FLIGHT, IN_FLIGHT_MAX),
        )
        things = (OUTBOX, subscriber.topic), (SUBSCRIPTIONS.name, subscriber.subscription_id)
        with self._waiters.waiting(*things) as changed:
            await _both(delivery, changed)


async def _both(delivery: _Delivery, changed: asyncio.Event) -> None:
    """Send and receive; the first error of either ends both."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(delivery.receive(changed))
            group.create_task(delivery.send(changed))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _receive_start(stream: MessageStream) -> pb.Start:
    try:
        async with asyncio.timeout(START_S):
            request = await stream.receive()
    except TimeoutError:
        raise DeadlineExceededError(
            f"nothing was asked for within {START_S:g} s", remedy="Send a start at once."
        ) from None
    if request is None or request.WhichOneof("kind") != "start":
        raise InvalidArgumentError(
            "the first request does not say what to read", remedy="Send a start."
        )
    return request.start


async def _begin(
    tx: Transaction, *, subscriber: Subscriber, session: str, resume_after: int | None
) -> int:
    """Make this stream the subscriber's, and return up to which message it is done.

    Raises:
        FailedPreconditionError: the subscriber remembers messages that there never were.
    """
    topic, component = subscriber.topic, subscriber.component
    position = await begin(tx, topic=topic, consumer=component)
    if resume_after is not None and resume_after > position:
        try:
            await acknowledge_up_to(tx, topic=topic, consumer=component, sequence=resume_after)
        except InvalidArgumentError:
            raise FailedPreconditionError(
                f"resume_after: {topic} has no message {resume_after}",
                remedy="The control plane was restored from a backup: forget the position.",
            ) from None
        position = resume_after
    value = Subscription(session=session, since=tx.now)
    stored = await tx.lookup(SUBSCRIPTIONS, subscriber.subscription_id)
    if stored is None:
        await tx.insert(SUBSCRIPTIONS, subscriber.subscription_id, value)
    else:
        await tx.replace(stored, value)
    return position


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def message_services(site: Site, waiters: Waiters) -> Services:
    """Return the service of messages to the partitions."""
    services = Services()
    services.stream(MessageService.SUBSCRIBE, _Messages(site, waiters).subscribe)
    return services
