# SPDX-License-Identifier: Apache-2.0
"""Which nodes a newcomer is told about, and why a node is not ready."""

import pytest

from metropolis.api.management_pb2 import Node
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.directory import Candidate, directory
from metropolis.cluster.planner.explain import Subject, explain
from metropolis.cluster.planner.roles import Roles
from metropolis.consensus.store import Member


def candidate(
    number: int, state: NodeState = NodeState.UP, address: str = "192.0.2.1"
) -> Candidate:
    key = bytes([number]) * 32
    return Candidate(
        node_id=node_id_from_public_key(key),
        public_key=key,
        state=state,
        external_address=address,
    )


def test_the_directory_lists_members_by_key_at_most_fifteen() -> None:
    listed = directory([candidate(number) for number in range(40, 10, -1)])
    expected = [candidate(number).node_id for number in range(11, 26)]
    assert [node.id for node in listed.nodes] == expected
    assert listed.nodes[0].addresses[0].host == "192.0.2.1"


def test_the_directory_leaves_out_what_is_no_member() -> None:
    others = [candidate(n, state) for n, state in enumerate(NodeState) if state is not NodeState.UP]
    assert not directory(others).nodes


def test_a_member_that_has_not_reported_its_address_is_not_listed_because_newcomers_refuse_it() -> (
    None
):
    listed = directory([candidate(1, address=""), candidate(2)])
    assert [node.id for node in listed.nodes] == [candidate(2).node_id]


ID = candidate(1).node_id
HEALTHY, TIMEOUT = Node.HEALTH_HEALTHY, Node.HEALTH_HEARTBEAT_TIMEOUT


def subject(
    state: NodeState = NodeState.UP,
    health: Node.Health.ValueType = HEALTHY,
    roles: Roles | None = None,
    *,
    has_status: bool = True,
) -> Subject:
    return Subject(
        node_id=ID,
        state=state,
        health=health,
        silence_s=None if health != HEALTHY else 1.0,
        has_status=has_status,
        roles=roles or Roles(),
    )


def member(*, is_learner: bool, has_started: bool) -> Member:
    return Member(
        member_id=1, name=ID, peer_urls=(), is_learner=is_learner, has_started=has_started
    )


MEMBER = Roles(consensus_member=True)


@pytest.mark.parametrize(
    ("case", "members", "codes"),
    [
        (subject(), [], []),
        (subject(NodeState.NEW), [], ["NOT_APPROVED"]),
        (subject(NodeState.STANDBY), [], ["NOT_COMMITTED"]),
        (subject(NodeState.DECOMMISSIONED), [], ["DECOMMISSIONED"]),
        (subject(health=TIMEOUT), [], ["HEARTBEAT_TIMEOUT"]),
        (subject(health=Node.HEALTH_UNKNOWN), [], ["HEALTH_UNKNOWN"]),
        (subject(has_status=False), [], ["NO_STATUS"]),
        (subject(roles=Roles(kubernetes_worker=True)), [], ["ROLE_NOT_IN_THIS_BUILD"]),
        (subject(roles=MEMBER), [], ["ROLE_WITHOUT_MEMBER"]),
        (subject(roles=MEMBER), None, []),
        (
            subject(roles=MEMBER),
            [member(is_learner=True, has_started=False)],
            ["MEMBER_NOT_STARTED"],
        ),
        (subject(roles=MEMBER), [member(is_learner=True, has_started=True)], ["MEMBER_IS_LEARNER"]),
        (subject(roles=MEMBER), [member(is_learner=False, has_started=True)], []),
        (
            subject(health=TIMEOUT, roles=Roles(kubernetes_worker=True), has_status=False),
            [],
            ["HEARTBEAT_TIMEOUT", "NO_STATUS", "ROLE_NOT_IN_THIS_BUILD"],
        ),
    ],
)
def test_a_node_is_explained_worst_first(
    case: Subject, members: list[Member] | None, codes: list[str]
) -> None:
    findings = explain(case, members)
    assert [finding.code for finding in findings] == codes
    assert all(finding.summary and finding.remedy for finding in findings)
