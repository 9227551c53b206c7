# SPDX-License-Identifier: Apache-2.0
"""What silence means. Pure.

Heartbeats are known to the leader only, who leaves a note for the next one about who was silent. A
new leader has heard nobody yet. So until nodes had the time to find it, the silence of those that
were fine means that we do not know; the others go on being silent.

    tenure begins ──── 15 s after the last node that came back, 60 s at most ────▶ silence counts

How long finding it takes depends on how many nodes look: ten thousand take half a minute.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from metropolis.api.management_pb2 import Node
from metropolis.cluster.lifecycle import NodeState

HEARTBEAT_INTERVAL_S: Final = 5.0
HEARTBEAT_TIMEOUT_S: Final = 15.0  # three beats: one lost beat never makes the health flap
GRACE_S_MAX: Final = 60.0  # twice what ten thousand nodes need to find a new leader

# A node that was never heard has the largest duration of the original's programming language.
NEVER_NS: Final = (1 << 63) - 1

Health: TypeAlias = Node.Health.ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What the leader knows about one node's heartbeats. Times are monotonic seconds.

    Attributes:
        last_heard_s: By this leader.
        grace_end_s: When silence begins to count; None: a timeout after the tenure began.
        before_s: When an earlier leader heard the node at the earliest, as this one was told.
        was_silent: An earlier leader missed it when it looked last.
    """

    last_heard_s: float | None
    tenure_start_s: float
    now_s: float
    grace_end_s: float | None = None
    before_s: float | None = None
    was_silent: bool = False

    @property
    def silence_ns(self) -> int:
        """Time since the last heartbeat; `NEVER_NS` when there was none."""
        last_s = self.before_s if self.last_heard_s is None else self.last_heard_s
        return NEVER_NS if last_s is None else max(0, round((self.now_s - last_s) * 1e9))


def silence_ns(state: NodeState, pulse: Pulse) -> int:
    """Time since a node's last heartbeat, for people.

    An earlier leader vouches for all whose silence it did not note, also for nodes that it never
    knew: of one that is not UP, and so sends none, only what was really heard counts.
    """
    if state is not NodeState.UP and pulse.last_heard_s is None:
        return NEVER_NS
    return pulse.silence_ns


def judge(state: NodeState, pulse: Pulse) -> Health:
    """Judge a node's health."""
    if state is not NodeState.UP:
        return Node.HEALTH_UNKNOWN
    if pulse.last_heard_s is not None:
        is_late = pulse.now_s - pulse.last_heard_s > HEARTBEAT_TIMEOUT_S
        return Node.HEALTH_HEARTBEAT_TIMEOUT if is_late else Node.HEALTH_HEALTHY
    end_s = pulse.grace_end_s
    if end_s is None:
        end_s = pulse.tenure_start_s + HEARTBEAT_TIMEOUT_S
    if pulse.was_silent or pulse.now_s > end_s:
        return Node.HEALTH_HEARTBEAT_TIMEOUT
    return Node.HEALTH_UNKNOWN


def extended_grace_s(*, tenure_start_s: float, grace_end_s: float, now_s: float) -> float:
    """Return when silence begins to count, now that one more node has found the leader."""
    if now_s > grace_end_s:
        return grace_end_s  # over is over: a latecomer makes nobody's silence excusable
    return max(grace_end_s, min(now_s + HEARTBEAT_TIMEOUT_S, tenure_start_s + GRACE_S_MAX))
