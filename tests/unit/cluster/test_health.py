# SPDX-License-Identifier: Apache-2.0
"""What silence means."""

from dataclasses import replace

import pytest

from metropolis.api.management_pb2 import Node
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.health import (
    NEVER_NS,
    Pulse,
    extended_grace_s,
    judge,
    silence_ns,
)

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


@pytest.mark.parametrize(
    ("pulse", "health"),
    [
        pytest.param(Pulse(last_heard_s=None, tenure_start_s=0, now_s=40, grace_end_s=40), UNKNOWN),
        pytest.param(Pulse(last_heard_s=None, tenure_start_s=0, now_s=41, grace_end_s=40), TIMEOUT),
        pytest.param(Pulse(last_heard_s=None, tenure_start_s=0, now_s=1, was_silent=True), TIMEOUT),
        pytest.param(Pulse(last_heard_s=1, tenure_start_s=0, now_s=1, was_silent=True), HEALTHY),
    ],
    ids=["nodes still come back", "grace is over", "silent before", "silent before, back now"],
)
def test_a_new_leader_waits_for_those_that_were_fine(
    pulse: Pulse, health: Node.Health.ValueType
) -> None:
    assert judge(NodeState.UP, pulse) == health


def test_silence_is_counted_from_an_earlier_leader_on() -> None:
    assert Pulse(last_heard_s=None, tenure_start_s=5, now_s=9, before_s=2).silence_ns == 7 * 10**9
    assert Pulse(last_heard_s=8, tenure_start_s=5, now_s=9, before_s=2).silence_ns == 10**9
    assert Pulse(last_heard_s=9, tenure_start_s=5, now_s=9).silence_ns == 0
    assert Pulse(last_heard_s=10, tenure_start_s=5, now_s=9).silence_ns == 0


@pytest.mark.parametrize(
    ("grace_end_s", "now_s", "after_s"),
    [
        pytest.param(15.0, 1.0, 16.0, id="one more came back"),
        pytest.param(15.0, 15.0, 30.0, id="at the last moment"),
        pytest.param(15.0, 15.1, 15.0, id="too late"),
        pytest.param(55.0, 50.0, 60.0, id="not for ever"),
        pytest.param(30.0, 2.0, 30.0, id="never less than before"),
    ],
)
def test_grace_lasts_while_nodes_come_back(
    grace_end_s: float, now_s: float, after_s: float
) -> None:
    given = extended_grace_s(tenure_start_s=0.0, grace_end_s=grace_end_s, now_s=now_s)
    assert given == after_s


def test_a_machine_that_was_never_up_was_never_heard_whatever_the_leader_before_vouched_for() -> (
    None
):
    vouched = Pulse(last_heard_s=None, tenure_start_s=5, now_s=9, before_s=2)
    assert silence_ns(NodeState.NEW, vouched) == silence_ns(NodeState.STANDBY, vouched) == NEVER_NS
    assert silence_ns(NodeState.UP, vouched) == 7 * 10**9
    heard = replace(vouched, last_heard_s=8)
    assert silence_ns(NodeState.DECOMMISSIONED, heard) == 10**9
