# SPDX-License-Identifier: Apache-2.0
"""Reading the outbox: consumers, their positions, and how long messages are kept.

async for messages in follow(site.store, topic="fra-1-machine", consumer="metal-bmc"):
for message in messages:
...  # do it; (message.topic, message.sequence) tells whether it was done before
await acknowledge(site.store, messages[-1], consumer="metal-bmc")
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from metropolis.base.errors import InvalidArgumentError, MetropolisError, OutOfRangeError
from metropolis.metal.store.documents import from_us, to_us
from metropolis.metal.store.interface import Change, Reader, Store, Transaction
from metropolis.metal.store.work import OUTBOX

BATCH: Final = 100  # messages read in one go
RETENTION: Final = timedelta(days=7)  # of messages that somebody has not acknowledged
MESSAGES_MAX: Final = 100_000  # kept per topic
PRUNE_EVERY_S: Final = 60.0

_STATE: Final = (
    "SELECT t.last, t.floor, c.position FROM outbox_topic t"
    " LEFT JOIN consumer c ON c.topic = t.topic AND c.name = $2 WHERE t.topic = $1"
)
_MESSAGES: Final = (
    "SELECT sequence, sent, payload FROM outbox"
    " WHERE topic = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"
)
_CONSUMERS: Final = (
    "SELECT c.topic, c.name, c.position, coalesce(t.last, 0), c.changed FROM consumer c"
    " LEFT JOIN outbox_topic t ON t.topic = c.topic ORDER BY c.topic, c.name"
)
_SET_POSITION: Final = (
    "INSERT INTO consumer (topic, name, position, changed) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (topic, name) DO UPDATE SET position = excluded.position,"
    " changed = excluded.changed WHERE consumer.position < excluded.position"
)
_TOPICS: Final = (
    "SELECT t.topic, t.last, t.floor,"
    " (SELECT min(c.position) FROM consumer c WHERE c.topic = t.topic),"
    " (SELECT max(o.sequence) FROM outbox o WHERE o.topic = t.topic AND o.sent <= $1)"
    " FROM outbox_topic t WHERE t.floor < t.last ORDER BY t.topic"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it was sent.

    Attributes:
        sequence: From 1, without holes; with the topic it names the message for ever.
        payload: JSON.
        missed: How many messages right before this one retention has removed unread.
    """

    topic: str
    sequence: int
    sent: datetime
    payload: bytes
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """How far one consumer has read one topic.

    Attributes:
        position: Sequence of the last message that it acknowledged; 0: none.
        last: Sequence of the last message there is.
        changed: When it acknowledged last, or began.
    """

    topic: str
    name: str
    position: int
    last: int
    changed: datetime


async def read_messages(
    reader: Reader, topic: str, *, after: int, limit: int = BATCH
) -> list[Message]:
    """Read the next messages of a topic after a sequence, in order."""
    rows = await reader.fetch(_MESSAGES, topic, after, limit)
    messages: list[Message] = []
    for sequence, sent_us, payload in rows:
        messages.append(
            Message(
                topic=topic,
                sequence=sequence,
                sent=from_us(sent_us),
                payload=payload.encode(),
                missed=sequence - after - 1,
            )
        )
        after = sequence
    return messages


async def list_consumers(reader: Reader) -> list[Consumer]:
    """Return who reads what, and how far; by topic and name."""
    return [
        Consumer(topic=topic, name=name, position=position, last=last, changed=from_us(changed_us))
        for topic, name, position, last, changed_us in await reader.fetch(_CONSUMERS)
    ]


async def begin(tx: Transaction, *, topic: str, consumer: str, at_newest: bool = False) -> int:
    """Make a consumer known, which keeps messages for it from now on; return its position.

    Args:
        at_newest: A new one does not care for what was sent before. One that is known goes on
            where it was.
    """
    rows = await tx.fetch(_STATE, topic, consumer)
    last, floor, position = rows[0] if rows else (0, 0, None)
    if position is None:
        position = last if at_newest else floor
        await tx.execute(_SET_POSITION, topic, consumer, position, to_us(tx.now))
    return int(position)


async def acknowledge(store: Store, message: Message, *, consumer: str) -> None:
    """Note that a consumer has done a message and all before it. To repeat that is harmless."""

    async def note(tx: Transaction) -> None:
        await acknowledge_up_to(
            tx, topic=message.topic, consumer=consumer, sequence=message.sequence
        )

    await store.write(note, serial=False)


async def acknowledge_up_to(tx: Transaction, *, topic: str, consumer: str, sequence: int) -> None:
    """Note that a consumer has done all messages up to a sequence; an older one changes nothing.

    Raises:
        InvalidArgumentError: no such message was ever sent.
    """
    rows = await tx.fetch(_STATE, topic, consumer)
    last = rows[0][0] if rows else 0
    if not 0 <= sequence <= last:
        raise InvalidArgumentError(
            f"topic {topic!r} has {last} messages: {sequence} cannot be acknowledged",
            remedy="Acknowledge sequences as they were delivered.",
        )
    await tx.execute(_SET_POSITION, topic, consumer, sequence, to_us(tx.now))


async def forget(tx: Transaction, *, topic: str, consumer: str) -> None:
    """Remove a consumer: messages are no longer kept for it."""
    await tx.execute("DELETE FROM consumer WHERE topic = $1 AND name = $2", topic, consumer)


async def follow(
    store: Store, *, topic: str, consumer: str, at_newest: bool = False, batch: int = BATCH
) -> AsyncGenerator[Sequence[Message]]:
    """Yield messages from the consumer's position on, as they are committed, for ever.

    What was yielded and not acknowledged is yielded again to whoever follows next.

    Args:
        at_newest: See `begin`.
    """

    async def start(tx: Transaction) -> int:
        return await begin(tx, topic=topic, consumer=consumer, at_newest=at_newest)

    position = await store.write(start, serial=False)
    while True:
        # Taken before the messages are read: whatever is sent afterwards wakes us.
        revision = await store.read(lambda reader: reader.revision())
        async with aclosing(store.watch(revision)) as changes:
            while True:
                messages = await store.read(
                    lambda reader: read_messages(reader, topic, after=position, limit=batch)  # noqa: B023  # at once
                )
                if messages:
                    position = messages[-1].sequence
                    yield messages
                elif not await _wait_sent(changes, topic):
                    break


async def _wait_sent(changes: AsyncIterator[Sequence[Change]], topic: str) -> bool:
    try:
        async for some in changes:
            if any(change.kind == OUTBOX and change.id == topic for change in some):
                return True
    except OutOfRangeError:  # the consumer took so long that history has moved on
        return False
    raise AssertionError("a watch ends only with an error")


async def prune(tx: Transaction) -> int:
    """Remove what everybody has acknowledged, what is too old and what is too much.

    Returns:
        How many messages.
    """
    count = 0
    oldest_us = to_us(tx.now - RETENTION)
    for topic, last, floor, acknowledged, outdated in await tx.fetch(_TOPICS, oldest_us):
        until = max(acknowledged or 0, outdated or 0, last - MESSAGES_MAX)
        if until > floor:
            count += await tx.execute(
                "DELETE FROM outbox WHERE topic = $1 AND sequence <= $2", topic, until
            )
            await tx.execute("UPDATE outbox_topic SET floor = $2 WHERE topic = $1", topic, until)
    return count


async def run_retention(store: Store) -> None:
    """Prune every minute, for ever; a database that is away is tried again."""
    while True:
        try:
            await store.write(prune, serial=False)
        except MetropolisError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(PRUNE_EVERY_S)
