# SPDX-License-Identifier: Apache-2.0
"""Introspection of this very node: its supervision tree and its consensus member, as they are."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from metropolis.api import introspection_pb2 as wire
from metropolis.base.ids import NodeId
from metropolis.cluster.planner.room import FULL_BYTES, REMEDY, summary
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.host import Clock, Directory
from metropolis.rpc.peer import Peer
from metropolis.supervision import RunnableStatus, State, Value
from metropolis.supervision.names import is_within

States = Callable[[], Mapping[str, RunnableStatus]]

_STATES: Mapping[State, wire.RunnableStatus.State.ValueType] = {
    State.NEW: wire.RunnableStatus.STATE_NEW,
    State.HEALTHY: wire.RunnableStatus.STATE_HEALTHY,
    State.DONE: wire.RunnableStatus.STATE_DONE,
    State.DEAD: wire.RunnableStatus.STATE_DEAD,
    State.CANCELED: wire.RunnableStatus.STATE_CANCELED,
}


class IntrospectionService:
    """Reads the tree, of which the supervisor hands out a snapshot per call, and the member."""

    def __init__(
        self,
        states: States,
        clock: Clock,
        *,
        node_id: NodeId,
        consensus: Value[ConsensusStatus | None],
        storage: Directory,
        is_disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._states = states
        self._clock = clock
        self._node_id = node_id
        self._consensus = consensus
        self._storage = storage
        self._is_disk_full = is_disk_full

    async def get_consensus_health(
        self, _request: wire.GetConsensusHealthRequest, _peer: Peer
    ) -> wire.GetConsensusHealthResponse:
        """Say how this node's member is; nothing where none votes."""
        response = wire.GetConsensusHealthResponse()
        current = self._consensus.current
        if current is not None:
            status = await current.store.status()
            response.members.add(
                id=self._node_id,
                learner=status.is_learner,
                voter=not status.is_learner,
                is_leader=status.leader_id == status.member_id,
                raft_index=status.raft_index,
                reachable=True,
                error="; ".join(status.errors),
            )
        return response

    async def get_supervision_tree(
        self, request: wire.GetSupervisionTreeRequest, _peer: Peer
    ) -> wire.GetSupervisionTreeResponse:
        """List every runnable at or below the asked DN."""
        now_s = self._clock.monotonic_s()
        response = wire.GetSupervisionTreeResponse()
        for dn, status in sorted(self._states().items()):
            if request.dn_prefix and not is_within(dn, request.dn_prefix):
                continue
            entry = response.entries.add(
                dn=dn,
                state=_STATES[status.state],
                reason=_reason(status),
                restarts=status.restarts,
            )
            entry.time_in_state.FromTimedelta(timedelta(seconds=max(0.0, now_s - status.since_s)))
            if status.backoff_until_s is not None:
                left_s = max(0.0, status.backoff_until_s - now_s)
                entry.backoff_remaining.FromTimedelta(timedelta(seconds=left_s))
        free_bytes = await self._storage.free_bytes()
        if free_bytes < FULL_BYTES or self._is_disk_full():
            response.findings.append(_disk_full(free_bytes))
        return response


def _disk_full(free_bytes: int) -> wire.Finding:
    return wire.Finding(
        code="DISK_FULL",
        summary=summary(free_bytes),
        remedy=REMEDY,
        severity=wire.Finding.SEVERITY_ERROR,
    )


def _reason(status: RunnableStatus) -> str:
    if status.stuck_at is not None:
        return f"ignores its cancellation, awaits {status.stuck_at}"
    return status.last_error or ""
