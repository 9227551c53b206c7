# SPDX-License-Identifier: Apache-2.0
"""Models of clusters for the dashboard's tests; the time is always 1000 s."""

from dataclasses import replace

from metropolis.ctl.dashboard.model import MemberRow, Model, NodeRow

NOW_S = 1000.0
IDS = tuple(f"metropolis-{digit * 4}{'0123456789ab' * 2}{digit * 4}" for digit in "abc")
MEMBER_ROLES = ("ConsensusMember", "KubernetesController")


def a_node(index: int, *, health: str = "HEALTHY", heartbeat: str = "1s") -> NodeRow:
    return NodeRow(
        node_id=IDS[index],
        state="UP",
        health=health,
        roles=MEMBER_ROLES if index < 2 else ("KubernetesWorker",),
        address=f"10.1.0.{2 + index}",
        heartbeat=heartbeat,
    )


def a_member(index: int, *, vote: str = "yes", error: str = "") -> MemberRow:
    return MemberRow(
        node_id=IDS[index],
        vote=vote,
        is_raft_leader=index == 1,
        is_reachable=not error,
        raft_index=0 if error else 1234,
        error=error,
    )


def log_line(number: int) -> str:
    return f"              kvstore I compaction {number} of 9 finished in {number} ms"


HEALTHY = Model(
    cluster="demo",
    nodes=(a_node(0), a_node(1), a_node(2)),
    members=(a_member(0), a_member(1)),
    summary="2 of 2 voting members can be reached; none more may fail before changes stop.",
    leader_id=IDS[0],
    taken_s=NOW_S - 1,
    explained_id=IDS[0],
    explanation=("Nothing keeps it from doing its work.",),
    logged_id=IDS[0],
    log=tuple(log_line(number) for number in range(1, 10)),
)

ILL = replace(
    HEALTHY,
    nodes=(a_node(0), a_node(1, health="HEARTBEAT_TIMEOUT", heartbeat="75s"), a_node(2)),
    members=(
        a_member(0),
        a_member(1, error="cannot reach 10.1.0.3:7839: the proxy 127.0.0.1:1 refused: unreachable"),
    ),
    summary="Only 1 of 2 voting members can be reached and 2 are needed.",
    explained_id=IDS[1],
    explanation=(
        "error: No heartbeat was heard for 75 s. [HEARTBEAT_TIMEOUT]",
        "  Check that the machine is on and reaches port 7835 of the control plane.",
        "",
        "warning: The node itself does not answer. [NODE_UNREACHABLE]",
        "  Check that the machine is up.",
    ),
    logged_id=IDS[1],
    log=("-- The log cannot be read: cannot reach 10.1.0.3:7839. Trying again. --",),
)

LEADERLESS = replace(
    HEALTHY, taken_s=NOW_S - 42, problem="cannot reach 10.1.0.2:7835: connection refused"
)

MANY = replace(
    HEALTHY,
    nodes=tuple(
        replace(a_node(2), node_id=f"metropolis-{number:032x}", address=f"10.2.0.{number}")
        for number in range(100)
    ),
)
