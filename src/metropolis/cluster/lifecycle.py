# SPDX-License-Identifier: Apache-2.0
"""The life of a node as the cluster sees it: one table of (state, event) -> state or refusal. Pure.

Nothing else in this room decides a state. The handbook's drawing is made from the same table.

Repeats are events of their own: `REGISTER_AGAIN` comes with the join key that the record holds,
`COMMIT_AGAIN` with the cluster unlock key that it holds. So a lost reply is repaired by asking
again, and a different machine in the place of the first one is still refused.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
)
from metropolis.base.ids import NodeId


class NodeState(enum.IntEnum):
    """Numbers are those of `common.NodeState` on the wire and in the store."""

    ABSENT = 0  # there is no record; never stored
    NEW = 1  # registered, waits for approval
    STANDBY = 2  # approved, has not yet committed
    UP = 3  # member of the cluster
    DECOMMISSIONED = 4  # out of service for good, kept for the record


class NodeEvent(enum.Enum):
    """What can happen to a node's record."""

    BOOTSTRAP = "bootstrap"  # the first node makes the cluster
    REGISTER = "register"  # a machine asks for membership
    REGISTER_AGAIN = "register again"  # with the same join key
    APPROVE = "approve"
    COMMIT = "commit"  # the machine hands in its cluster unlock key
    COMMIT_AGAIN = "commit again"  # with the same cluster unlock key
    JOIN = "join"  # a member started again
    DECOMMISSION = "decommission"
    DELETE = "delete"
    DELETE_ANYWAY = "delete anyway"  # with safety_bypass_not_decommissioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an event is not possible in a state."""

    kind: type[MetropolisError]
    message: str
    remedy: str

    def error(self, node_id: NodeId) -> MetropolisError:
        """Return the error that tells a caller about one node."""
        return self.kind(f"node {node_id}: {self.message}", remedy=self.remedy)


Outcome = NodeState | Refusal

_ABSENT: Final = Refusal(
    kind=NotFoundError,
    message="no such node",
    remedy="List the nodes with `metroctl node list`; the node must register first.",
)
_EXISTS: Final = Refusal(
    kind=FailedPreconditionError,
    message="is part of a cluster already",
    remedy="Delete it with `metroctl node delete` before it enrols anew.",
)
_APPROVED_WITH_OTHER_KEY: Final = Refusal(
    kind=FailedPreconditionError,
    message="was approved with another join key",
    remedy="Delete it with `metroctl node delete` if the machine was installed again.",
)
_RETIRED: Final = Refusal(
    kind=FailedPreconditionError,
    message="is decommissioned",
    remedy="Delete it with `metroctl node delete`, then install the machine again.",
)
_NOT_APPROVED: Final = Refusal(
    kind=PermissionDeniedError,
    message="is not approved yet",
    remedy="Approve it with `metroctl approve`; the machine keeps asking by itself.",
)
_COMMITTED: Final = Refusal(
    kind=FailedPreconditionError,
    message="has committed already, with another cluster unlock key",
    remedy="Delete it with `metroctl node delete` if the machine was installed again.",
)
_NOT_COMMITTED: Final = Refusal(
    kind=FailedPreconditionError,
    message="has not committed, so there is nothing to join",
    remedy="Let the machine finish its enrolment; approve it if it waits for that.",
)
_NEVER_SERVED: Final = Refusal(
    kind=FailedPreconditionError,
    message="was never in service, so it cannot be decommissioned",
    remedy="Delete it with `metroctl node delete`.",
)
_IN_SERVICE: Final = Refusal(
    kind=FailedPreconditionError,
    message="node must be decommissioned first",
    remedy="Pass --bypass-not-decommissioned to `metroctl node delete` to delete it anyway.",
)

_S: Final = NodeState
_E: Final = NodeEvent

TABLE: Final[Mapping[NodeState, Mapping[NodeEvent, Outcome]]] = {
    _S.ABSENT: {
        _E.BOOTSTRAP: _S.UP,
        _E.REGISTER: _S.NEW,
        _E.REGISTER_AGAIN: _ABSENT,
        _E.APPROVE: _ABSENT,
        _E.COMMIT: _ABSENT,
        _E.COMMIT_AGAIN: _ABSENT,
        _E.JOIN: _ABSENT,
        _E.DECOMMISSION: _ABSENT,
        _E.DELETE: _ABSENT,
        _E.DELETE_ANYWAY: _ABSENT,
    },
    _S.NEW: {
        _E.BOOTSTRAP: _EXISTS,
        _E.REGISTER: _S.NEW,  # nobody trusts it yet, so it may start over with another join key
        _E.REGISTER_AGAIN: _S.NEW,
        _E.APPROVE: _S.STANDBY,
        _E.COMMIT: _NOT_APPROVED,
        _E.COMMIT_AGAIN: _NOT_APPROVED,
        _E.JOIN: _NOT_COMMITTED,
        _E.DECOMMISSION: _NEVER_SERVED,
        _E.DELETE: _S.ABSENT,
        _E.DELETE_ANYWAY: _S.ABSENT,
    },
    _S.STANDBY: {
        _E.BOOTSTRAP: _EXISTS,
        _E.REGISTER: _APPROVED_WITH_OTHER_KEY,
        _E.REGISTER_AGAIN: _S.STANDBY,  # approved while the reply was on its way
        _E.APPROVE: _S.STANDBY,
        _E.COMMIT: _S.UP,
        _E.COMMIT_AGAIN: _S.UP,
        _E.JOIN: _NOT_COMMITTED,
        _E.DECOMMISSION: _NEVER_SERVED,
        _E.DELETE: _S.ABSENT,
        _E.DELETE_ANYWAY: _S.ABSENT,
    },
    _S.UP: {
        _E.BOOTSTRAP: _EXISTS,
        _E.REGISTER: _EXISTS,
        _E.REGISTER_AGAIN: _EXISTS,
        _E.APPROVE: _S.UP,
        _E.COMMIT: _COMMITTED,
        _E.COMMIT_AGAIN: _S.UP,
        _E.JOIN: _S.UP,
        _E.DECOMMISSION: _S.DECOMMISSIONED,
        _E.DELETE: _IN_SERVICE,
        _E.DELETE_ANYWAY: _S.ABSENT,
    },
    _S.DECOMMISSIONED: {
        _E.BOOTSTRAP: _EXISTS,
        _E.REGISTER: _RETIRED,
        _E.REGISTER_AGAIN: _RETIRED,
        _E.APPROVE: _RETIRED,
        _E.COMMIT: _RETIRED,
        _E.COMMIT_AGAIN: _RETIRED,
        _E.JOIN: _RETIRED,
        _E.DECOMMISSION: _S.DECOMMISSIONED,
        _E.DELETE: _S.ABSENT,
        _E.DELETE_ANYWAY: _S.ABSENT,
    },
}


def advance(node_id: NodeId, state: NodeState, event: NodeEvent) -> NodeState:
    """Return the state after `event`.

    Raises:
        MetropolisError: the refusal of the table, naming the node.
    """
    outcome = TABLE[state][event]
    if isinstance(outcome, Refusal):
        raise outcome.error(node_id)
    return outcome


def diagram() -> str:
    """Draw the table as a Mermaid state diagram; events that change nothing are left out."""
    lines = ["stateDiagram-v2"]
    for state, row in TABLE.items():
        by_target: dict[NodeState, list[str]] = {}
        for event, outcome in row.items():
            if isinstance(outcome, NodeState) and outcome is not state:
                by_target.setdefault(outcome, []).append(event.value)
        for target, events in by_target.items():
            names = " / ".join(event for event in events if not _is_repeat(event, events))
            lines.append(f"    {_corner(state)} --> {_corner(target)}: {names}")
    return "\n".join(lines) + "\n"


def _is_repeat(event: str, events: list[str]) -> bool:
    first, _, rest = event.rpartition(" ")
    return bool(rest) and first in events


def _corner(state: NodeState) -> str:
    return "[*]" if state is NodeState.ABSENT else state.name
