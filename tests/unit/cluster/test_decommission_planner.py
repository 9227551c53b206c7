# SPDX-License-Identifier: Apache-2.0
"""What comes next in a decommission, for everything that can be known."""

from dataclasses import replace
from itertools import product

import pytest

from metropolis.base.ids import NodeId
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.decommission import (
    Facts,
    Hearing,
    Step,
    Work,
    plan,
    quorum_without,
)
from metropolis.cluster.planner.roles import Roles
from metropolis.consensus.store import Member

NODE = NodeId("metropolis-" + "0" * 32)
NONE = Roles()
EVERY_ROLE = Roles(consensus_member=True, kubernetes_controller=True, kubernetes_worker=True)
CONSENSUS = Roles(consensus_member=True)
WORKER = Roles(kubernetes_worker=True)
HEARD, SILENT, UNKNOWN = Hearing.HEARD, Hearing.SILENT, Hearing.UNKNOWN
OUT = NodeState.DECOMMISSIONED


def facts(step: Step, **known: object) -> Facts:
    return replace(Facts(node_id=NODE, step=step), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "work", "then"),
    [
        (facts(Step.DRAIN_KUBERNETES, roles=EVERY_ROLE), Work.TAKE_KUBERNETES, Step(2)),
        (facts(Step.DRAIN_KUBERNETES, roles=WORKER), Work.TAKE_KUBERNETES, Step(2)),
        (facts(Step.DRAIN_KUBERNETES, roles=CONSENSUS), Work.ADVANCE, Step(2)),
        (
            facts(Step.DRAIN_CONSENSUS, roles=CONSENSUS, is_member=True),
            Work.TAKE_CONSENSUS,
            Step(3),
        ),
        (facts(Step.DRAIN_CONSENSUS, roles=CONSENSUS), Work.TAKE_CONSENSUS, Step(3)),
        (facts(Step.DRAIN_CONSENSUS, is_member=True), Work.TAKE_CONSENSUS, Step(3)),
        (facts(Step.DRAIN_CONSENSUS), Work.ADVANCE, Step(3)),
        (facts(Step.DRAIN_CONSENSUS, is_member=True, is_leader=True), Work.HAND_OVER, Step(2)),
        (
            facts(Step.DRAIN_CONSENSUS, is_member=True, is_leader=True, quorum_problem="no"),
            Work.WAIT,
            Step(2),
        ),
        (facts(Step.DRAIN_CONSENSUS, quorum_problem="of others"), Work.ADVANCE, Step(3)),
        (facts(Step.WIPE), Work.ORDER_WIPE, Step(3)),
        (facts(Step.WIPE, is_forced=True, hearing=SILENT), Work.ORDER_WIPE, Step(3)),
        (facts(Step.WIPE, state=OUT), Work.WAIT, Step(3)),
        (facts(Step.WIPE, state=OUT, hearing=SILENT), Work.WAIT, Step(3)),
        (facts(Step.WIPE, state=OUT, is_forced=True), Work.WAIT, Step(3)),
        (facts(Step.WIPE, state=OUT, is_forced=True, hearing=UNKNOWN), Work.WAIT, Step(3)),
        (facts(Step.WIPE, state=OUT, is_forced=True, hearing=SILENT), Work.ADVANCE, Step(4)),
        (facts(Step.WIPE, state=OUT, has_accepted=True), Work.WAIT, Step(3)),
        (facts(Step.WIPE, state=OUT, is_wiped=True, hearing=SILENT), Work.ADVANCE, Step(4)),
        (facts(Step.REMOVE_MEMBER, state=OUT), Work.ADVANCE, Step(5)),
        (facts(Step.REMOVE_MEMBER, state=OUT, is_member=True), Work.REMOVE_MEMBER, Step(4)),
        (
            facts(Step.REMOVE_MEMBER, state=OUT, is_member=True, quorum_problem="no"),
            Work.WAIT,
            Step(4),
        ),
        (facts(Step.DELETE_KEYS, state=OUT), Work.DELETE_KEYS, Step(6)),
        (facts(Step.SCRUB, state=OUT), Work.ORDER_SCRUB, Step(6)),
        (facts(Step.SCRUB, state=OUT, unscrubbed={}), Work.ADVANCE, Step(7)),
        (facts(Step.SCRUB, state=OUT, unscrubbed={"a": HEARD}), Work.WAIT, Step(6)),
        (facts(Step.SCRUB, state=OUT, unscrubbed={"a": SILENT}), Work.WAIT, Step(6)),
        (
            facts(Step.SCRUB, state=OUT, unscrubbed={"a": SILENT}, is_forced=True),
            Work.ADVANCE,
            Step(7),
        ),
        (
            facts(Step.SCRUB, state=OUT, unscrubbed={"a": SILENT, "b": HEARD}, is_forced=True),
            Work.WAIT,
            Step(6),
        ),
        (
            facts(Step.SCRUB, state=OUT, unscrubbed={"a": UNKNOWN}, is_forced=True),
            Work.WAIT,
            Step(6),
        ),
        (facts(Step.REVOKE, state=OUT), Work.REVOKE, Step(8)),
        (facts(Step.DONE, state=OUT), Work.WAIT, Step(8)),
    ],
)
def test_what_comes_next(known: Facts, work: Work, then: Step) -> None:
    move = plan(known)
    assert (move.work, move.then) == (work, then)
    assert move.sentence.endswith(".")


def every_fact() -> list[Facts]:
    """Everything that can be known at once, sense or not."""
    yes_no = (False, True)
    return [
        Facts(
            node_id=NODE,
            step=step,
            is_forced=is_forced,
            state=state,
            roles=roles,
            is_leader=is_leader,
            is_member=is_member,
            quorum_problem=problem,
            hearing=hearing,
            has_accepted=has_accepted,
            is_wiped=is_wiped,
            unscrubbed=unscrubbed,
        )
        for step, is_forced, state, roles, is_leader, is_member, problem, hearing, (
            has_accepted,
            is_wiped,
        ), unscrubbed in product(
            Step,
            yes_no,
            (NodeState.UP, OUT),
            (NONE, EVERY_ROLE, CONSENSUS, WORKER),
            yes_no,
            yes_no,
            ("", "no quorum"),
            Hearing,
            ((False, False), (True, False), (True, True)),
            (None, {}, {"a": HEARD}, {"a": SILENT}),
        )
    ]


def test_whatever_is_known_no_step_is_left_out_and_no_quorum_is_risked() -> None:
    reached: set[tuple[Step, Work]] = set()
    for known in every_fact():
        move = plan(known)
        reached.add((known.step, move.work))
        assert move.then - known.step in (0, 1)
        if move.work in (Work.TAKE_CONSENSUS, Work.REMOVE_MEMBER) and known.is_member:
            assert not known.quorum_problem
        if move.work is Work.TAKE_CONSENSUS:
            assert not known.is_leader
        if move.then > known.step and known.step is Step.WIPE:
            assert known.state is OUT
            assert known.is_wiped or (known.is_forced and known.hearing is SILENT)
        if move.then > known.step and known.step is Step.REMOVE_MEMBER:
            assert not known.is_member
        if move.then > known.step and known.step is Step.SCRUB:
            assert known.unscrubbed == {} or known.is_forced
    assert {work for _, work in reached} == set(Work)


def member(name: str, *, is_learner: bool = False) -> Member:
    return Member(
        member_id=ord(name[-1]),
        name=name,
        peer_urls=(f"https://{name}:7834",),
        is_learner=is_learner,
        has_started=True,
    )


@pytest.mark.parametrize(
    ("others", "is_fine", "may_pass"),
    [
        ("", False, False),
        ("h", True, False),
        ("s", False, False),
        ("u", False, True),
        ("hh", True, False),
        ("hs", False, False),
        ("hu", False, True),
        ("uu", False, True),
        ("hhs", True, False),
        ("hss", False, False),
        ("hus", False, True),
        ("hhss", False, False),
        ("hhhs", True, False),
    ],
)
def test_who_stays_must_be_able_to_decide(others: str, is_fine: bool, may_pass: bool) -> None:
    """One letter for each voting member that stays: heard, silent, unknown."""
    meaning = {"h": HEARD, "s": SILENT, "u": UNKNOWN}
    names = {f"node-{number}": meaning[letter] for number, letter in enumerate(others)}
    members = [member(NODE), *(member(name) for name in names)]
    problem = quorum_without(members, NODE, {NODE: SILENT, **names})
    assert (problem is None) is is_fine
    if problem is not None:
        assert problem.may_pass is may_pass
        assert problem.remedy
        assert all(name in problem.remedy for name, heard in names.items() if heard is SILENT)


def test_learners_and_strangers_leave_at_any_time() -> None:
    members = [member(NODE, is_learner=True), member("node-1"), member("node-2")]
    silent = dict.fromkeys(("node-1", "node-2"), SILENT)
    assert quorum_without(members, NODE, silent) is None
    assert quorum_without(members[1:], NODE, silent) is None


def test_a_learner_that_stays_does_not_count() -> None:
    members = [member(NODE), member("node-1", is_learner=True)]
    problem = quorum_without(members, NODE, {"node-1": HEARD})
    assert problem is not None
    assert "only voting member" in problem.text


def test_a_wipe_says_whether_the_node_has_heard_of_it() -> None:
    assert "until it begins to wipe itself" in plan(facts(Step.WIPE, state=OUT)).sentence
    accepted = facts(Step.WIPE, state=OUT, has_accepted=True)
    assert "it is wiping itself" in plan(accepted).sentence
