# SPDX-License-Identifier: Apache-2.0
"""The table of a node's life, all of it."""

import pytest

from metropolis.api.common_pb2 import NodeState as WireState
from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.lifecycle import TABLE, NodeEvent, NodeState, advance, diagram

NODE = node_id_from_public_key(b"\x01" * 32)
S, E = NodeState, NodeEvent
NOT_FOUND, PRECONDITION = NotFoundError, FailedPreconditionError
DENIED = PermissionDeniedError

# Rows: events in the order of the enumeration. Written out again on purpose: a slip in the table
# must not repeat itself here.
EXPECTED: dict[NodeState, list[NodeState | type[MetropolisError]]] = {
    S.ABSENT: [S.UP, S.NEW, *[NOT_FOUND] * 8],
    S.NEW: [
        PRECONDITION, S.NEW, S.NEW, S.STANDBY, DENIED, DENIED, PRECONDITION, PRECONDITION,
        S.ABSENT, S.ABSENT,
    ],
    S.STANDBY: [
        PRECONDITION, PRECONDITION, S.STANDBY, S.STANDBY, S.UP, S.UP, PRECONDITION, PRECONDITION,
        S.ABSENT, S.ABSENT,
    ],
    S.UP: [
        PRECONDITION, PRECONDITION, PRECONDITION, S.UP, PRECONDITION, S.UP, S.UP, S.DECOMMISSIONED,
        PRECONDITION, S.ABSENT,
    ],
    S.DECOMMISSIONED: [*[PRECONDITION] * 7, S.DECOMMISSIONED, S.ABSENT, S.ABSENT],
}  # fmt: skip

CASES = [
    pytest.param(state, event, outcome, id=f"{state.name}-{event.name}")
    for state, row in EXPECTED.items()
    for event, outcome in zip(NodeEvent, row, strict=True)
]


@pytest.mark.parametrize(("state", "event", "outcome"), CASES)
def test_every_event_in_every_state_has_the_agreed_outcome(
    state: NodeState, event: NodeEvent, outcome: NodeState | type[MetropolisError]
) -> None:
    if isinstance(outcome, NodeState):
        assert advance(NODE, state, event) is outcome
        return
    with pytest.raises(outcome) as caught:
        advance(NODE, state, event)
    assert NODE in str(caught.value)
    assert caught.value.remedy.endswith((".", "…"))


def test_nothing_reaches_up_without_an_approval() -> None:
    """Breadth first, without APPROVE and BOOTSTRAP: STANDBY and UP stay out of reach."""
    reached, todo = {S.ABSENT}, [S.ABSENT]
    while todo:
        state = todo.pop()
        for event, outcome in TABLE[state].items():
            is_trusting = event in {E.APPROVE, E.BOOTSTRAP}
            if is_trusting or not isinstance(outcome, NodeState) or outcome in reached:
                continue
            reached.add(outcome)
            todo.append(outcome)
    assert reached == {S.ABSENT, S.NEW}


def test_state_numbers_are_those_of_the_wire() -> None:
    for state in NodeState:
        name = "INVALID" if state is S.ABSENT else state.name
        assert WireState.Value(f"NODE_STATE_{name}") == int(state)


def test_the_diagram_shows_every_change_of_state_once() -> None:
    assert diagram() == (
        "stateDiagram-v2\n"
        "    [*] --> UP: bootstrap\n"
        "    [*] --> NEW: register\n"
        "    NEW --> STANDBY: approve\n"
        "    NEW --> [*]: delete\n"
        "    STANDBY --> UP: commit\n"
        "    STANDBY --> [*]: delete\n"
        "    UP --> DECOMMISSIONED: decommission\n"
        "    UP --> [*]: delete anyway\n"
        "    DECOMMISSIONED --> [*]: delete\n"
    )
