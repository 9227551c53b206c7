# SPDX-License-Identifier: Apache-2.0
"""What silence means."""

import pytest

from metropolis.api.management_pb2 import Node
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.health import NEVER_NS, Pulse, judge

UNKNOWN, HEALTHY = Node.HEALTH_UNKNOWN, Node.HEALTH_HEALTHY
TIMEOUT = Node.HEALTH_HEARTBEAT_TIMEOUT


@pytest.mark.parametrize(
    ("heard_s", "tenure_s", "now_s", "health"),
    [
        pytest.param(None, 100.0, 100.0, UNKNOWN, id="new leader"),
        pytest.param(None, 100.0, 115.0, UNKNOWN, id="just in time"),
        pytest.param(None, 100.0, 115.1, TIMEOUT, id="never heard"),
        pytest.param(100.0, 0.0, 100.0, HEALTHY, id="just heard"),
        pytest.param(100.0, 0.0, 115.0, HEALTHY, id="two beats lost"),
        pytest.param(100.0, 0.0, 115.1, TIMEOUT, id="silent"),
        pytest.param(100.0, 99.0, 115.1, TIMEOUT, id="silent under a new leader that heard it"),
    ],
)
def test_health_of_a_member_follows_from_its_last_heartbeat(
    heard_s: float | None, tenure_s: float, now_s: float, health: Node.Health.ValueType
) -> None:
    pulse = Pulse(last_heard_s=heard_s, tenure_start_s=tenure_s, now_s=now_s)
    assert judge(NodeState.UP, pulse) == health


@pytest.mark.parametrize("state", [NodeState.NEW, NodeState.STANDBY, NodeState.DECOMMISSIONED])
def test_health_of_what_is_no_member_is_unknown(state: NodeState) -> None:
    assert judge(state, Pulse(last_heard_s=5.0, tenure_start_s=0.0, now_s=5.0)) == UNKNOWN


def test_silence_of_a_node_that_was_never_heard_is_the_largest_duration() -> None:
    pulse = Pulse(last_heard_s=None, tenure_start_s=0.0, now_s=5.0)
    assert pulse.silence_ns == NEVER_NS == 9223372036_854775807
    assert Pulse(last_heard_s=2.5, tenure_start_s=0.0, now_s=5.0).silence_ns == 2_500_000_000
