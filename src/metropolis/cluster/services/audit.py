# SPDX-License-Identifier: Apache-2.0
"""Audit: reading the log. Records go out as they are stored, so that callers can verify them."""

from collections import deque

from metropolis.api.audit_pb2 import (
    GetHeadRequest,
    GetHeadResponse,
    Head,
    ListRequest,
    ListResponse,
    Record,
)
from metropolis.base.errors import DataLossError, OutOfRangeError
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.audit import check_filter, matches
from metropolis.formats.audit.chain import GENESIS, decode
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer

Stream = ServerStream[ListRequest, ListResponse]


async def list_records(leader: Leader, stream: Stream) -> None:
    """Send the records that a caller wants; with `follow` until it goes."""
    request = await stream.receive() or ListRequest()
    check_filter(request)
    watcher = leader.store.news.watch()
    end = await leader.store.head()
    _check_after(request.after, end)
    await _send_backlog(leader, stream, request, end)
    seen = end.sequence
    while request.follow:
        newest = await watcher.wait_for(lambda sequence, after=seen: sequence > after)  # type: ignore[misc]
        async for sequence, stored in leader.store.walk(seen + 1, newest):
            if matches(request, _read(stored)):
                await stream.send(ListResponse(sequence=sequence, record=stored))
        seen = newest


def _check_after(after: int, end: Head) -> None:
    """Check that nothing is missing between what a caller has and what it will get.

    Raises:
        OutOfRangeError: something is.
    """
    if after > end.sequence:
        raise OutOfRangeError(
            f"the audit log ends with record {end.sequence}, before {after}",
            remedy="Compare a head that was kept: after a restore the log is an earlier one.",
        )
    if after and after + 1 < end.first:
        raise OutOfRangeError(
            f"records {after + 1} to {end.first - 1} were dropped meanwhile",
            remedy="List the log again; what was dropped is in a backup, at best.",
        )


async def _send_backlog(leader: Leader, stream: Stream, request: ListRequest, end: Head) -> None:
    """Send what is there; kept back only where the newest are to be known first."""
    is_held = bool(request.newest_first or request.limit)
    held: deque[ListResponse] = deque(maxlen=request.limit or None)
    async for sequence, stored in leader.store.walk(
        max(end.first, request.after + 1), end.sequence
    ):
        if not matches(request, _read(stored)):
            continue
        response = ListResponse(sequence=sequence, record=stored)
        if is_held:
            held.append(response)
        else:
            await stream.send(response)
    for response in reversed(held) if request.newest_first else held:
        await stream.send(response)


def _read(stored: bytes) -> Record | None:
    try:
        return decode(stored)
    except DataLossError:
        return None


async def get_head(leader: Leader, _request: GetHeadRequest, _peer: Peer) -> GetHeadResponse:
    """Return the end of the log."""
    end = await leader.store.head()
    return GetHeadResponse(
        head=Head(sequence=end.sequence, hash=end.hash or GENESIS, first=end.first),
        unauthenticated_refusals=leader.auditor.unauthenticated,
        problem=leader.auditor.problem,
    )
