# SPDX-License-Identifier: Apache-2.0
"""The outbox on both databases: in order, at least once, bounded."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta

import msgspec
import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.messages.outbox import (
    Message,
    acknowledge,
    acknowledge_up_to,
    begin,
    follow,
    forget,
    list_consumers,
    prune,
    read_messages,
)
from metropolis.metal.store import Store, Transaction
from unit.metal.kit import NOW, StillClock, opened


class Command(msgspec.Struct, kw_only=True, frozen=True):
    number: int


def sends(*numbers: int, topic: str = "t") -> Callable[[Transaction], Awaitable[None]]:
    async def change(tx: Transaction) -> None:
        for number in numbers:
            await tx.send(topic, Command(number=number))

    return change


def numbers(messages: list[Message]) -> list[int]:
    return [msgspec.json.decode(each.payload, type=Command).number for each in messages]


async def take(store: Store, count: int, consumer: str = "c", batch: int = 3) -> list[Message]:
    taken: list[Message] = []
    stream = follow(store, topic="t", consumer=consumer, batch=batch)
    async with aclosing(stream):
        async for messages in stream:
            taken += messages
            if len(taken) >= count:
                break
    return taken


def run(url: str, scenario: Callable[[Store, StillClock], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = StillClock()
        async with opened(url, clock) as store:
            await scenario(store, clock)

    asyncio.run(whole())


def test_messages_come_in_order_while_they_are_sent(store_url: str) -> None:
    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1, 2, 3, 4, 5))
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(take(store, 45))
            for number in range(6, 46, 2):
                tasks.create_task(store.write(sends(0, topic="other")))
                await store.write(sends(number, number + 1), serial=number % 4 == 0)
        messages = reader.result()
        assert numbers(messages) == list(range(1, 46))
        assert [each.sequence for each in messages] == list(range(1, 46))
        assert {each.sent for each in messages} == {NOW}

    run(store_url, scenario)


def test_what_was_not_acknowledged_comes_again_and_nothing_else(store_url: str) -> None:
    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1, 2, 3, 4, 5))
        first = await take(store, 3)
        await acknowledge(store, first[1], consumer="c")
        await acknowledge(store, first[0], consumer="c")
        assert numbers(await take(store, 3)) == [3, 4, 5]
        assert numbers(await take(store, 5, consumer="other", batch=9)) == [1, 2, 3, 4, 5]
        consumers = await store.read(list_consumers)
        assert [(each.name, each.position, each.last) for each in consumers] == [
            ("c", 2, 5),
            ("other", 0, 5),
        ]

    run(store_url, scenario)


@pytest.mark.parametrize("sequence", [-1, 4])
def test_what_was_never_sent_cannot_be_acknowledged(store_url: str, sequence: int) -> None:
    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1, 2, 3))
        with pytest.raises(InvalidArgumentError, match="'t' has 3 messages"):
            await store.write(
                lambda tx: acknowledge_up_to(tx, topic="t", consumer="c", sequence=sequence)
            )

    run(store_url, scenario)


def test_a_new_consumer_may_begin_with_what_is_sent_from_now_on(store_url: str) -> None:
    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1, 2))
        new = lambda tx: begin(tx, topic="t", consumer="c", at_newest=True)  # noqa: E731
        assert await store.write(new) == 2
        await store.write(sends(3))
        assert await store.write(new) == 2
        assert numbers(await take(store, 1)) == [3]

    run(store_url, scenario)


def test_messages_go_when_everybody_has_them_or_after_a_week(store_url: str) -> None:
    async def scenario(store: Store, clock: StillClock) -> None:
        await store.write(sends(1, 2, 3))
        assert await store.write(prune) == 0
        for consumer, sequence in (("a", 2), ("b", 1)):
            await store.write(
                lambda tx, c=consumer, s=sequence: acknowledge_up_to(  # type: ignore[misc]
                    tx, topic="t", consumer=c, sequence=s
                )
            )
        assert await store.write(prune) == 1
        clock.advance(timedelta(days=8).total_seconds())
        await store.write(sends(4))
        assert await store.write(prune) == 2
        (message,) = await take(store, 1, consumer="b")
        assert (message.sequence, message.missed) == (4, 2)
        (fresh,) = await take(store, 1, consumer="new")
        assert (fresh.sequence, fresh.missed) == (4, 0)
        await store.write(lambda tx: forget(tx, topic="t", consumer="b"))
        await store.write(lambda tx: forget(tx, topic="t", consumer="new"))
        await store.write(lambda tx: acknowledge_up_to(tx, topic="t", consumer="a", sequence=4))
        assert await store.write(prune) == 1
        await store.write(sends(5))
        left = await store.read(lambda reader: read_messages(reader, "t", after=0))
        assert [each.sequence for each in left] == [5]

    run(store_url, scenario)


def test_a_topic_is_bounded(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metropolis.metal.messages.outbox.MESSAGES_MAX", 3)

    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1, 2, 3, 4, 5))
        assert await store.write(prune) == 2
        assert numbers(await take(store, 3)) == [3, 4, 5]

    run(store_url, scenario)


def test_a_consumer_that_slept_through_all_history_finds_its_place(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.store.work.REVISIONS_KEPT", 4)
    monkeypatch.setattr("metropolis.metal.store.work.PRUNE_EVERY", 2)
    monkeypatch.setattr("metropolis.metal.store.history.TAIL_CHANGES_MAX", 4)

    async def scenario(store: Store, _: StillClock) -> None:
        await store.write(sends(1))
        seen: list[int] = []
        async for messages in follow(store, topic="t", consumer="c"):
            seen += numbers(list(messages))
            if len(seen) == 1:
                for number in range(30):
                    await store.write(sends(number, topic="other"))
            if len(seen) == 3:
                break
            await store.write(sends(len(seen) + 1))
        assert seen == [1, 2, 3]

    run(store_url, scenario)
