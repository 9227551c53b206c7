# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google.protobuf.message import Message

from metropolis.api import etcd_pb2 as pb
from metropolis.base.errors import DeadlineExceededError, MetropolisError, UnavailableError
from metropolis.consensus.etcd.store import EtcdStore


class ScriptedChannel:
    """Answers unary calls in the order of its script and keeps what was asked."""

    def __init__(self, answers: Sequence[Message | MetropolisError]) -> None:
        self.answers = deque(answers)
        self.requests: list[Any] = []
        self.metadata: list[Mapping[str, str] | None] = []

    async def call(
        self,
        method: Any,
        request: Any,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> Any:
        assert method.request_type is type(request)
        assert timeout_s <= 10
        self.requests.append(request)
        self.metadata.append(metadata)
        answer = self.answers.popleft()
        if isinstance(answer, MetropolisError):
            raise answer
        return answer

    def open(
        self,
        method: Any,
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Any]:
        raise AssertionError(f"no streams here: {method}, {timeout_s}, {metadata}")

    async def close(self) -> None: ...


def page(names: Sequence[bytes], *, revision: int, more: bool) -> pb.RangeResponse:
    return pb.RangeResponse(
        header=pb.ResponseHeader(revision=revision),
        kvs=[pb.KeyValue(key=name) for name in names],
        more=more,
    )


def test_later_pages_of_a_range_are_read_as_of_the_first() -> None:
    channel = ScriptedChannel(
        [page([b"/a", b"/b"], revision=5, more=True), page([b"/c"], revision=9, more=False)]
    )
    found = asyncio.run(EtcdStore(channel).range(b"/"))
    assert [item.key for item in found.items] == [b"/a", b"/b", b"/c"]
    assert found.revision == 5
    first, second = channel.requests
    assert (first.key, first.range_end, first.revision) == (b"/", b"0", 0)
    assert (second.key, second.range_end, second.revision) == (b"/b\0", b"0", 5)


def test_what_needs_a_quorum_says_so_and_the_status_does_not() -> None:
    channel = ScriptedChannel([pb.RangeResponse(), pb.TxnResponse(), pb.StatusResponse()])

    async def scenario() -> None:
        store = EtcdStore(channel)
        await store.get(b"/a")
        await store.transact([], [])
        await store.status()

    asyncio.run(scenario())
    assert channel.metadata == [{"hasleader": "true"}, {"hasleader": "true"}, None]


def test_a_member_that_does_not_answer_is_unavailable() -> None:
    channel = ScriptedChannel([DeadlineExceededError("no answer within 4 s")])
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(EtcdStore(channel).get(b"/a"))
    assert isinstance(caught.value.__cause__, DeadlineExceededError)
