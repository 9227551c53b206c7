# SPDX-License-Identifier: Apache-2.0
"""Roles and consensus members are brought together one by one."""

from itertools import combinations, product

import pytest

from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.planner.membership import (
    AddRole,
    Change,
    DropRoles,
    NodeView,
    Refresh,
    RemoveMember,
    plan,
)
from metropolis.cluster.planner.roles import Roles
from metropolis.consensus.store import Member

LEADER, SECOND, THIRD = (node_id_from_public_key(bytes([i]) * 32) for i in (1, 2, 3))
MEMBER = Roles(consensus_member=True)


def view(node_id: NodeId, roles: Roles = MEMBER, *, is_current: bool = True) -> NodeView:
    return NodeView(node_id=node_id, roles=roles, is_current=is_current)


def member(name: str, number: int, *, is_learner: bool = False) -> Member:
    return Member(
        member_id=number, name=name, peer_urls=(), is_learner=is_learner, has_started=True
    )


def decide(nodes: list[NodeView], members: list[Member]) -> Change | None:
    return plan(leader_id=LEADER, nodes=nodes, members=members)


def test_nothing_happens_when_all_agree() -> None:
    nodes = [view(LEADER), view(SECOND), view(THIRD, Roles(kubernetes_worker=True))]
    assert decide(nodes, [member(LEADER, 1), member(SECOND, 2)]) is None


def test_a_leader_that_does_not_find_itself_acts_on_nothing() -> None:
    stranger = member("stranger", 9)
    assert decide([view(SECOND)], [member(LEADER, 1), stranger]) is None
    assert decide([view(LEADER)], [member(SECOND, 1), stranger]) is None


def test_a_member_without_a_node_is_removed_first() -> None:
    change = decide(
        [view(LEADER), view(SECOND)], [member(LEADER, 1), member(THIRD, 3, is_learner=True)]
    )
    assert isinstance(change, RemoveMember)
    assert (change.member_id, change.node_id) == (3, THIRD)
    assert THIRD in change.sentence


def test_a_member_without_the_role_gets_it() -> None:
    change = decide([view(LEADER), view(SECOND, Roles())], [member(LEADER, 1), member(SECOND, 2)])
    assert isinstance(change, AddRole)
    assert change.node_id == SECOND


@pytest.mark.parametrize(
    "roles",
    [
        MEMBER,
        Roles(kubernetes_controller=True),
        Roles(consensus_member=True, kubernetes_controller=True),
    ],
)
def test_roles_of_a_node_that_is_no_member_are_dropped(roles: Roles) -> None:
    change = decide([view(LEADER), view(SECOND, roles)], [member(LEADER, 1)])
    assert isinstance(change, DropRoles)
    assert change.node_id == SECOND


def test_what_a_member_is_told_is_renewed_last() -> None:
    nodes = [view(LEADER, is_current=False), view(SECOND, Roles())]
    members = [member(LEADER, 1), member(SECOND, 2)]
    assert isinstance(decide(nodes, members), AddRole)
    assert isinstance(decide([nodes[0], view(SECOND)], members), Refresh)


def test_the_last_voter_is_never_removed() -> None:
    """The leader votes, so this needs a leader that is a learner: then nothing is done."""
    members = [member(LEADER, 1, is_learner=True), member("stranger", 2)]
    assert decide([view(LEADER)], members) is None


def test_every_disagreement_ends_in_agreement() -> None:
    """Carry plans out from every start of two nodes and a stranger: agreement in few steps."""
    for held, present in product(product((False, True), repeat=2), _subsets([SECOND, "stranger"])):
        nodes = {
            LEADER: MEMBER,
            SECOND: Roles(consensus_member=held[0], kubernetes_controller=held[1]),
        }
        members = {name: member(name, n) for n, name in enumerate([LEADER, *present], start=1)}
        for _ in range(4):
            change = decide([view(i, r) for i, r in nodes.items()], list(members.values()))
            match change:
                case RemoveMember():
                    del members[change.node_id]
                case AddRole():
                    nodes[change.node_id] = MEMBER
                case DropRoles():
                    nodes[change.node_id] = Roles()
                case _:
                    break
        assert {name for name, roles in nodes.items() if roles.consensus_member} == set(members)


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    return [subset for size in range(len(names) + 1) for subset in combinations(names, size)]
