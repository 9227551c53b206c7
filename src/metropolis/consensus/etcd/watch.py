# SPDX-License-Identifier: Apache-2.0
"""One watch on one stream: complete revisions in, whatever pieces etcd cut them into."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from metropolis.api import etcd_pb2 as pb
from metropolis.api.rpc_etcd import EtcdWatch as Rpc
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.consensus.etcd.errors import QUORUM_REMEDY, translate
from metropolis.consensus.etcd.messages import prefix_range, watch_event
from metropolis.consensus.store import WatchBatch, WatchCompactedError, WatchEvent
from metropolis.rpc.channel import Channel, ClientStream

# A member that knows no leader refuses at once, and after three election timeouts ends streams.
HAS_LEADER = {"hasleader": "true"}


class EtcdWatch:
    """See `metropolis.consensus.store.Watch`."""

    def __init__(self, stream: ClientStream[pb.WatchRequest, pb.WatchResponse]) -> None:
        self._stream = stream
        self._fragments: list[WatchEvent] = []  # of a batch whose end has not come yet

    async def receive(self) -> WatchBatch:
        while True:
            response = await self.receive_response()
            if not response.events and not self._fragments:
                return WatchBatch(revision=response.header.revision, events=())
            self._fragments.extend(map(watch_event, response.events))
            if response.fragment:
                continue
            events, self._fragments = self._fragments, []
            # Not the header's revision: while a watch catches up it runs ahead of the events.
            return WatchBatch(revision=events[-1].mod_revision, events=events)

    async def request_progress(self) -> None:
        request = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
        try:
            await self._stream.send(request)
        except MetropolisError as cause:
            raise _lost(cause) from cause

    async def create(self, prefix: bytes, start_revision: int) -> None:
        """Ask for the watch and wait until it stands, so that "from now" has a meaning."""
        key, end = prefix_range(prefix)
        request = pb.WatchRequest(
            create_request=pb.WatchCreateRequest(
                key=key,
                range_end=end,
                start_revision=start_revision,
                fragment=True,  # or a busy revision would not fit into one message
            )
        )
        try:
            await self._stream.send(request)
        except MetropolisError as cause:
            raise _lost(cause) from cause
        created = await self.receive_response()
        assert created.created, "etcd answers a create request before anything else"

    async def receive_response(self) -> pb.WatchResponse:
        """Return etcd's next message; raise what it says against the watch."""
        try:
            response = await self._stream.receive()
        except MetropolisError as cause:
            raise _lost(cause) from cause
        if response is None:
            raise UnavailableError("the local consensus member ended the watch", remedy="Retry.")
        if response.canceled:
            if response.compact_revision:
                raise WatchCompactedError(response.compact_revision)
            raise UnavailableError(
                f"the consensus ended the watch: {response.cancel_reason}", remedy=QUORUM_REMEDY
            )
        return response


@asynccontextmanager
async def open_watch(
    channel: Channel, prefix: bytes, *, start_revision: int, timeout_s: float
) -> AsyncGenerator[EtcdWatch, None]:
    """Open a watch; it must stand within `timeout_s`, then lives as long as the block."""
    async with channel.open(Rpc.WATCH, metadata=HAS_LEADER) as stream:
        watch = EtcdWatch(stream)
        try:
            async with asyncio.timeout(timeout_s):
                await watch.create(prefix, start_revision)
        except TimeoutError as cause:
            raise UnavailableError(
                "the local consensus member does not start the watch", remedy="Retry."
            ) from cause
        yield watch


def _lost(cause: MetropolisError) -> UnavailableError:
    """Whatever ends a watch, the caller can only open another."""
    error = translate(cause)
    if isinstance(error, UnavailableError):
        return error
    return UnavailableError("the watch was lost", remedy="Retry.")
