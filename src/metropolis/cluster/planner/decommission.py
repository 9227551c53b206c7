# SPDX-License-Identifier: Apache-2.0
"""How a node is taken out of service for good: the next thing to do, from what is known. Pure.

Each step is done before the next one is recorded, and each may be done twice. So whoever leads can
go on where another one stopped, whatever it was doing.

    DRAIN_KUBERNETES ─▶ DRAIN_CONSENSUS ─▶ WIPE ─┐
         the node is UP                          │ the node is DECOMMISSIONED
    ┌────────────────────────────────────────────┘
    └─▶ REMOVE_MEMBER ─▶ DELETE_KEYS ─▶ SCRUB ─▶ REVOKE ─▶ DONE

Until the node has said that it is wiped, it is admitted, for that purpose only. What it was told
to do cannot be taken back, so everything that could be refused is refused before the first step.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metropolis.base.ids import NodeId
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import Roles, find_member, member_node_id
from metropolis.consensus.store import Member


class Step(enum.IntEnum):
    """Numbers are those of `metropolis.ext.nodes.DecommissionStep`."""

    DRAIN_KUBERNETES = 1
    DRAIN_CONSENSUS = 2
    WIPE = 3
    REMOVE_MEMBER = 4
    DELETE_KEYS = 5
    SCRUB = 6
    REVOKE = 7
    DONE = 8


class Hearing(enum.Enum):
    """What a leader knows about a node by its heartbeats."""

    HEARD = "heard"
    SILENT = "silent"
    UNKNOWN = "not known yet"  # the leader is new


class Work(enum.Enum):
    """What has to be done now."""

    WAIT = "wait"
    ADVANCE = "advance"  # nothing; the next step can be recorded
    TAKE_KUBERNETES = "take Kubernetes roles"
    HAND_OVER = "hand the leadership over"
    TAKE_CONSENSUS = "take ConsensusMember"
    ORDER_WIPE = "order wipe"
    REMOVE_MEMBER = "remove member"
    DELETE_KEYS = "delete keys"
    ORDER_SCRUB = "order scrub"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that decides what comes next.

    Attributes:
        quorum_problem: Why the consensus cannot lose this node now; empty when it can.
        has_accepted: The node knows that it is to wipe itself.
        unscrubbed: Voting members that have not carried out the order to scrub, with what is
            known about their nodes. None before the order was given.
    """

    node_id: NodeId
    step: Step
    is_forced: bool = False
    state: NodeState = NodeState.UP
    roles: Roles = field(default_factory=Roles)
    is_leader: bool = False
    is_member: bool = False
    quorum_problem: str = ""
    hearing: Hearing = Hearing.HEARD
    has_accepted: bool = False
    is_wiped: bool = False
    unscrubbed: Mapping[str, Hearing] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What to do now, and the step to record when it is done."""

    work: Work
    then: Step
    sentence: str


def plan(facts: Facts) -> Move:
    """Decide what comes next."""
    match facts.step:
        case Step.DRAIN_KUBERNETES:
            return _drain_kubernetes(facts)
        case Step.DRAIN_CONSENSUS:
            return _drain_consensus(facts)
        case Step.WIPE:
            return _wipe(facts)
        case Step.REMOVE_MEMBER:
            return _remove_member(facts)
        case Step.DELETE_KEYS:
            return Move(
                work=Work.DELETE_KEYS,
                then=Step.SCRUB,
                sentence="Deleting its join key, its unlock key and its etcd certificate.",
            )
        case Step.SCRUB:
            return _scrub(facts)
        case Step.REVOKE:
            return Move(work=Work.REVOKE, then=Step.DONE, sentence="Revoking its certificate.")
        case Step.DONE:
            return Move(work=Work.WAIT, then=Step.DONE, sentence="Nothing is left to do.")


def _drain_kubernetes(facts: Facts) -> Move:
    held = [name for name in facts.roles.names if name.startswith("Kubernetes")]
    if held:
        return Move(
            work=Work.TAKE_KUBERNETES,
            then=Step.DRAIN_CONSENSUS,
            sentence=f"Taking {' and '.join(held)} away.",
        )
    return _advance(facts, Step.DRAIN_CONSENSUS, "It holds no Kubernetes role.")


def _drain_consensus(facts: Facts) -> Move:
    if facts.is_member and facts.quorum_problem:
        return _wait(facts, f"Waiting: {facts.quorum_problem}.")
    if facts.is_leader:
        return Move(
            work=Work.HAND_OVER,
            then=Step.DRAIN_CONSENSUS,
            sentence="It leads the cluster: handing the leadership over.",
        )
    if facts.is_member or facts.roles.consensus_member:
        return Move(
            work=Work.TAKE_CONSENSUS, then=Step.WIPE, sentence="Taking ConsensusMember away."
        )
    return _advance(facts, Step.WIPE, "It is no consensus member.")


def _wipe(facts: Facts) -> Move:
    if facts.state is not NodeState.DECOMMISSIONED:
        return Move(work=Work.ORDER_WIPE, then=Step.WIPE, sentence="Telling it to wipe itself.")
    if facts.is_wiped:
        return _advance(facts, Step.REMOVE_MEMBER, "It has wiped itself.")
    if facts.is_forced and facts.hearing is Hearing.SILENT:
        return _advance(
            facts, Step.REMOVE_MEMBER, "It cannot be reached: going on without a wipe, as forced."
        )
    if facts.has_accepted:
        return _wait(facts, "Waiting: it is wiping itself and reports when it is done.")
    if facts.hearing is Hearing.SILENT:
        return _wait(facts, "Waiting: it is silent; switch it on, or go on with --force.")
    return _wait(facts, "Waiting until it begins to wipe itself.")


def _remove_member(facts: Facts) -> Move:
    if not facts.is_member:
        return _advance(facts, Step.DELETE_KEYS, "Nothing of it is in the consensus.")
    if facts.quorum_problem:
        return _wait(facts, f"Waiting: {facts.quorum_problem}.")
    return Move(
        work=Work.REMOVE_MEMBER,
        then=Step.REMOVE_MEMBER,
        sentence="Removing it from the consensus.",
    )


def _scrub(facts: Facts) -> Move:
    if facts.unscrubbed is None:
        return Move(
            work=Work.ORDER_SCRUB,
            then=Step.SCRUB,
            sentence="Telling every consensus member to remove its keys from the database file.",
        )
    missing = [
        name
        for name, hearing in facts.unscrubbed.items()
        if not (facts.is_forced and hearing is Hearing.SILENT)
    ]
    if missing:
        return _wait(facts, f"Waiting until {missing[0]} has cleaned its database file.")
    left = ", ".join(sorted(facts.unscrubbed))
    return _advance(
        facts,
        Step.REVOKE,
        f"Going on without {left}, as forced; it cleans its file when it is back."
        if left
        else "No database file holds its keys any more.",
    )


def _advance(facts: Facts, then: Step, sentence: str) -> Move:
    assert then == facts.step + 1, "steps follow one another"
    return Move(work=Work.ADVANCE, then=then, sentence=sentence)


def _wait(facts: Facts, sentence: str) -> Move:
    return Move(work=Work.WAIT, then=facts.step, sentence=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumProblem:
    """Why the consensus cannot lose a member now.

    Attributes:
        may_pass: It may be gone as soon as the leader has heard all nodes.
        remedy: The safe order.
    """

    text: str
    remedy: str
    may_pass: bool = False


def quorum_without(
    members: Sequence[Member], node_id: NodeId, hearing: Mapping[str, Hearing]
) -> QuorumProblem | None:
    """Judge whether the consensus still decides once a node has left it.

    Args:
        hearing: What the leader knows of each voting member's node, its own included.
    """
    leaving = find_member(members, node_id)
    if leaving is None or leaving.is_learner:
        return None
    staying = [
        member_node_id(member)
        for member in members
        if not member.is_learner and member is not leaving
    ]
    if not staying:
        return QuorumProblem(
            text=f"node {node_id} is the only voting member of the consensus",
            remedy="Give ConsensusMember to another node first and wait until it votes.",
        )
    heard = [name for name in staying if hearing.get(name) is Hearing.HEARD]
    silent = [name for name in staying if hearing.get(name, Hearing.SILENT) is Hearing.SILENT]
    needed = len(staying) // 2 + 1
    if len(heard) >= needed:
        return None
    return QuorumProblem(
        text=f"without node {node_id}, {needed} of {len(staying)} voting members are needed, and "
        f"{len(heard)} can be heard",
        remedy=(
            f"First bring {' and '.join(silent)} back, or decommission it with --force; then retry."
            if silent
            else "Retry in 15 seconds: the leader is new and has not heard every node yet."
        ),
        may_pass=len(staying) - len(silent) >= needed,
    )
