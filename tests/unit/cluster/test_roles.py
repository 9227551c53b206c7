# SPDX-License-Identifier: Apache-2.0
"""What a change of roles means: every combination of what is held and what is asked for."""

from itertools import product

import pytest

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import (
    ConsensusStep,
    RolePlan,
    RoleRequest,
    Roles,
    check_quorum_without,
    find_member,
    plan,
)
from metropolis.consensus.store import Member

NODE = node_id_from_public_key(b"\x01" * 32)
OTHER = node_id_from_public_key(b"\x02" * 32)
BOOLS = (False, True)
MAYBE = (None, False, True)


def member(name: str, number: int = 1, *, is_learner: bool = False) -> Member:
    return Member(
        member_id=number,
        name=name,
        peer_urls=(f"https://{name}:7834",),
        is_learner=is_learner,
        has_started=True,
    )


VOTERS = (member(OTHER, 1), member(NODE, 2))


def try_plan(
    held: Roles,
    request: RoleRequest,
    *,
    members: tuple[Member, ...] = VOTERS,
    state: NodeState = NodeState.UP,
) -> RolePlan:
    return plan(node_id=NODE, state=state, roles=held, request=request, members=members)


@pytest.mark.parametrize("asked", list(product(MAYBE, repeat=3)))
@pytest.mark.parametrize("held", list(product(BOOLS, repeat=3)))
def test_every_request_is_either_refused_whole_or_planned_whole(
    held: tuple[bool, bool, bool], asked: tuple[bool | None, bool | None, bool | None]
) -> None:
    before = Roles(
        consensus_member=held[0], kubernetes_controller=held[1], kubernetes_worker=held[2]
    )
    request = RoleRequest(
        consensus_member=asked[0], kubernetes_controller=asked[1], kubernetes_worker=asked[2]
    )
    after = [old if new is None else new for old, new in zip(held, asked, strict=True)]
    is_nonsense = after[1] and not after[0]  # a controller that is no member
    was_nonsense_untouched = held[1] and not held[0] and asked[1] is not True
    if is_nonsense and not was_nonsense_untouched:
        with pytest.raises(FailedPreconditionError):
            try_plan(before, request)
        return
    decided = try_plan(before, request)
    assert decided.roles == Roles(
        consensus_member=after[0], kubernetes_controller=after[1], kubernetes_worker=after[2]
    )
    expected = {
        None: ConsensusStep.NOTHING,
        True: ConsensusStep.REFRESH,
        False: ConsensusStep.REMOVE,
    }
    assert decided.step is expected[asked[0]]


def test_controller_and_member_can_be_taken_in_one_request() -> None:
    decided = try_plan(
        Roles(consensus_member=True, kubernetes_controller=True),
        RoleRequest(consensus_member=False, kubernetes_controller=False),
    )
    assert decided.step is ConsensusStep.REMOVE
    assert decided.roles == Roles()
    assert decided.sentence.endswith("ConsensusMember, KubernetesController => none")


def test_a_node_that_is_no_member_is_added() -> None:
    decided = try_plan(Roles(), RoleRequest(consensus_member=True), members=(member(OTHER),))
    assert decided.step is ConsensusStep.ADD


def test_removing_a_node_that_is_no_member_only_clears_the_role() -> None:
    decided = try_plan(
        Roles(consensus_member=True),
        RoleRequest(consensus_member=False),
        members=(member(OTHER),),
    )
    assert decided.step is ConsensusStep.NOTHING
    assert decided.roles == Roles()


def test_one_node_at_a_time_catches_up() -> None:
    waiting = member(OTHER, is_learner=True)
    with pytest.raises(UnavailableError, match=OTHER):
        try_plan(Roles(), RoleRequest(consensus_member=True), members=(waiting,))


def test_the_only_voter_stays() -> None:
    members = (member(NODE, 1), member(OTHER, 2, is_learner=True))
    with pytest.raises(FailedPreconditionError, match="only voting member"):
        try_plan(Roles(consensus_member=True), RoleRequest(consensus_member=False), members=members)


@pytest.mark.parametrize("state", [NodeState.NEW, NodeState.STANDBY, NodeState.UP])
def test_roles_may_be_given_in_every_state_before_the_end(state: NodeState) -> None:
    given = try_plan(Roles(), RoleRequest(kubernetes_worker=True), state=state)
    assert given.roles.kubernetes_worker


def test_a_decommissioned_node_loses_roles_and_gets_none() -> None:
    state = NodeState.DECOMMISSIONED
    with pytest.raises(FailedPreconditionError, match="decommissioned"):
        try_plan(Roles(), RoleRequest(kubernetes_worker=True), state=state)
    worker = Roles(kubernetes_worker=True)
    assert not try_plan(worker, RoleRequest(kubernetes_worker=False), state=state).roles.names


def test_a_member_that_has_not_started_is_known_by_its_url() -> None:
    nameless = Member(
        member_id=7, name="", peer_urls=(f"https://{NODE}:7834",), is_learner=True,
        has_started=False,
    )  # fmt: skip
    assert find_member([nameless], NODE) is nameless
    assert find_member([nameless], OTHER) is None


@pytest.mark.parametrize("learners", range(3))
def test_the_only_voter_stays_however_many_learn(learners: int) -> None:
    learning = [member(f"learner-{each}", 10 + each, is_learner=True) for each in range(learners)]
    with pytest.raises(FailedPreconditionError, match="only voting member"):
        check_quorum_without([VOTERS[0], *learning], VOTERS[0])
    check_quorum_without([*VOTERS, *learning], VOTERS[0])
    for each in learning:
        check_quorum_without([VOTERS[0], *learning], each)
