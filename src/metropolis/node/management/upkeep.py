# SPDX-License-Identifier: Apache-2.0
"""ConsensusUpkeep on port 7839: gives room back that this node's member does not need any more.

It needs no leader: a store that is full grants no lease, so nobody can be elected to order it.
"""

import asyncio

from metropolis.api import introspection_pb2 as wire
from metropolis.base.errors import FailedPreconditionError
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.rpc.peer import Peer
from metropolis.supervision import Logger, Value


class UpkeepService:
    """Answers for this node's consensus member."""

    def __init__(self, consensus: Value[ConsensusStatus | None], log: Logger, node_id: str) -> None:
        self._consensus = consensus
        self._log = log
        self._node_id = node_id
        self._lock = asyncio.Lock()

    async def defragment(
        self, _request: wire.DefragmentRequest, peer: Peer
    ) -> wire.DefragmentResponse:
        """Forget all history, rewrite the database file, and end the complaint of being full."""
        async with self._lock:
            current = self._consensus.current
            if current is None:
                raise FailedPreconditionError(
                    "this node has no consensus member that votes",
                    remedy="Give the address of one that does; see `metroctl consensus status`.",
                )
            store = current.store
            before = await store.status()
            if not await store.scrub(before.revision):  # somebody has compacted further already
                await store.defragment()
            await store.disarm()
            after = await store.status()
        self._log.info(
            "%s %s had the database rewritten: %d bytes, before that %d",
            peer.kind.value,
            peer.identity,
            after.database_bytes,
            before.database_bytes,
        )
        return wire.DefragmentResponse(
            node_id=self._node_id,
            before_bytes=before.database_bytes,
            after_bytes=after.database_bytes,
            complaint="; ".join(after.errors),
        )
