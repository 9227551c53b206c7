# SPDX-License-Identifier: Apache-2.0
"""What silence means. Pure.

Heartbeats are known to the leader only. A new leader has heard nobody yet, so until nodes had the
time to find it, silence means that we do not know.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from metropolis.api.management_pb2 import Node
from metropolis.cluster.lifecycle import NodeState

HEARTBEAT_INTERVAL_S: Final = 5.0
HEARTBEAT_TIMEOUT_S: Final = 15.0  # three beats: one lost beat never makes the health flap

# A node that was never heard has the largest duration of the original's programming language.
NEVER_NS: Final = (1 << 63) - 1

Health: TypeAlias = Node.Health.ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What the leader knows about one node's heartbeats. Times are monotonic seconds."""

    last_heard_s: float | None
    tenure_start_s: float
    now_s: float

    @property
    def silence_ns(self) -> int:
        """Time since the last heartbeat; `NEVER_NS` when there was none."""
        if self.last_heard_s is None:
            return NEVER_NS
        return max(0, round((self.now_s - self.last_heard_s) * 1e9))


def judge(state: NodeState, pulse: Pulse) -> Health:
    """Judge a node's health."""
    if state is not NodeState.UP:
        return Node.HEALTH_UNKNOWN
    if pulse.last_heard_s is None:
        if pulse.now_s - pulse.tenure_start_s <= HEARTBEAT_TIMEOUT_S:
            return Node.HEALTH_UNKNOWN
        return Node.HEALTH_HEARTBEAT_TIMEOUT
    if pulse.now_s - pulse.last_heard_s > HEARTBEAT_TIMEOUT_S:
        return Node.HEALTH_HEARTBEAT_TIMEOUT
    return Node.HEALTH_HEALTHY
