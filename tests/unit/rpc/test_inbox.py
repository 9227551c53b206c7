# SPDX-License-Identifier: Apache-2.0
"""What a stream has received is acknowledged in time, and all of it, but not byte by byte."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from metropolis.rpc.grpc.inbox import Inbox


def test_small_messages_are_not_acknowledged_one_by_one() -> None:
    acknowledged: list[int] = []

    async def scenario() -> None:
        inbox = Inbox(acknowledged.append)
        for _ in range(1000):
            inbox.add(b"12345", 5)
            assert await inbox.read(5) == b"12345"
        assert len(acknowledged) <= 5
        assert sum(acknowledged) + inbox.unacked_size() == 5000

    asyncio.run(scenario())


def test_who_waits_for_the_rest_of_a_message_has_acknowledged_its_beginning() -> None:
    acknowledged: list[int] = []

    async def scenario() -> None:
        inbox = Inbox(acknowledged.append)
        inbox.add(b"12", 2)
        reading = asyncio.ensure_future(inbox.read(5))
        await asyncio.sleep(0)
        assert sum(acknowledged) == 2  # or the rest might not fit the peer's window
        inbox.add(b"345", 3)
        assert await reading == b"12345"

    asyncio.run(scenario())


@given(st.lists(st.integers(1, 5000), max_size=20), st.integers(1, 3000))
def test_what_is_not_acknowledged_is_little_or_unread(sizes: list[int], count: int) -> None:
    acknowledged: list[int] = []

    async def scenario() -> None:
        inbox = Inbox(acknowledged.append)
        received = read = 0
        for size in sizes:
            inbox.add(bytes(size), size)
            received += size
            while received - read >= count:
                await inbox.read(count)
                read += count
                assert received - sum(acknowledged) < 1024 + (received - read)
        assert sum(acknowledged) + inbox.unacked_size() == received

    asyncio.run(scenario())
