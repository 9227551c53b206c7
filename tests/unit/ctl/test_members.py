# SPDX-License-Identifier: Apache-2.0
"""What is said about members that this computer reaches and the others do not."""

from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.ctl.members import NO_LEADER, summary


def voter(*, is_reachable: bool = True, error: str = "") -> ConsensusMemberHealth:
    return ConsensusMemberHealth(voter=True, reachable=is_reachable, error=error)


def test_a_member_that_is_cut_off_from_the_others_does_not_count() -> None:
    alone = voter(error=NO_LEADER)
    assert summary([voter(), voter(), alone]) == (
        "2 of 3 voting members can be reached and follow a leader; "
        "none more may fail before changes stop."
    )
    assert summary([voter(), alone, alone]).startswith(
        "Only 1 of 3 voting members can be reached and follow a leader and 2 are needed"
    )


def test_other_complaints_of_a_member_do_not_cost_its_vote() -> None:
    full = voter(error="etcdserver: mvcc: database space exceeded")
    learner = ConsensusMemberHealth(learner=True, reachable=True)
    said = "3 of 3 voting members can be reached; 1 more may fail before changes stop."
    assert summary([voter(), voter(), full, learner]) == said
    assert "2 of 3 voting members can be reached;" in summary(
        [voter(), voter(), voter(is_reachable=False)]
    )
