# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections import deque
from collections.abc import Sequence

import pytest

from metropolis.api import etcd_pb2 as pb
from metropolis.base.errors import InternalError, MetropolisError, UnavailableError
from metropolis.consensus.etcd.watch import EtcdWatch
from metropolis.consensus.store import WatchBatch, WatchCompactedError


class ScriptedStream:
    """Answers what it was told to, then ends."""

    def __init__(self, answers: Sequence[pb.WatchResponse | MetropolisError]) -> None:
        self.answers = deque(answers)
        self.sent: list[pb.WatchRequest] = []

    async def send(self, message: pb.WatchRequest) -> None:
        self.sent.append(message)

    async def end(self) -> None: ...

    async def receive(self) -> pb.WatchResponse | None:
        if not self.answers:
            return None
        answer = self.answers.popleft()
        if isinstance(answer, MetropolisError):
            raise answer
        return answer


def header(revision: int) -> pb.ResponseHeader:
    return pb.ResponseHeader(revision=revision)


def put(key: bytes, revision: int) -> pb.Event:
    return pb.Event(kv=pb.KeyValue(key=key, mod_revision=revision, create_revision=revision))


def receive(*answers: pb.WatchResponse | MetropolisError) -> WatchBatch:
    return asyncio.run(EtcdWatch(ScriptedStream(answers)).receive())


def test_fragments_become_one_batch() -> None:
    batch = receive(
        pb.WatchResponse(header=header(9), events=[put(b"a", 7), put(b"b", 7)], fragment=True),
        pb.WatchResponse(header=header(9), events=[put(b"c", 7)], fragment=True),
        pb.WatchResponse(header=header(9), events=[put(b"d", 8)]),
    )
    assert [event.key for event in batch.events] == [b"a", b"b", b"c", b"d"]
    assert batch.revision == 8, "the header is ahead of the events while a watch catches up"


def test_a_message_without_events_is_progress() -> None:
    batch = receive(pb.WatchResponse(header=header(9), watch_id=-1))
    assert (batch.revision, batch.events) == (9, ())


def test_a_compacted_watch_says_where_history_begins() -> None:
    with pytest.raises(WatchCompactedError) as caught:
        receive(pb.WatchResponse(header=header(9), canceled=True, compact_revision=5))
    assert caught.value.compact_revision == 5


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [pb.WatchResponse(canceled=True, cancel_reason="etcdserver: no leader")],
        [UnavailableError("etcdserver: no leader")],
        [InternalError("stream reset")],
    ],
    ids=["ended", "cancelled", "no leader", "broken"],
)
def test_whatever_ends_a_watch_it_can_be_tried_again(
    answers: list[pb.WatchResponse | MetropolisError],
) -> None:
    with pytest.raises(UnavailableError):
        receive(*answers)


def test_a_watch_asks_for_fragments_and_waits_until_it_stands() -> None:
    async def scenario() -> None:
        stream = ScriptedStream([pb.WatchResponse(header=header(9), created=True)])
        await EtcdWatch(stream).create(b"/a/", 7)
        assert stream.sent == [
            pb.WatchRequest(
                create_request=pb.WatchCreateRequest(
                    key=b"/a/", range_end=b"/a0", start_revision=7, fragment=True
                )
            )
        ]
        assert not stream.answers

    asyncio.run(scenario())
