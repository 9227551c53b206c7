# SPDX-License-Identifier: Apache-2.0
"""Failing often does not fill the log; failing in many ways neither."""

from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.audit_pb2 import OUTCOME_DENIED, Actor, ListRequest, Record
from metropolis.base.errors import InvalidArgumentError
from metropolis.cluster.planner.attempts import (
    AT_ONCE_MAX,
    BUDGET_MAX,
    KINDS_MAX,
    REPEAT_S,
    Attempts,
)
from metropolis.cluster.planner.audit import check_filter, matches


def refusal(number: int) -> Record:
    return Record(
        actor=Actor(kind=Actor.KIND_USER, identity=f"user-{number}"),
        method="Management.ApproveNode",
        outcome=OUTCOME_DENIED,
        code="permission-denied",
    )


def test_the_first_is_written_at_once_and_equal_ones_an_hour_later() -> None:
    attempts = Attempts(now_s=0)
    for second in range(100):
        attempts.note(refusal(1), now_s=second)
        written = attempts.take_due(now_s=second)
        assert [each.attempts for each in written] == ([1] if second == 0 else [])
    assert [each.attempts for each in attempts.take_due(now_s=REPEAT_S)] == [99]
    assert attempts.take_due(now_s=2 * REPEAT_S) == []
    attempts.note(refusal(1), now_s=2 * REPEAT_S + 1)
    assert [each.attempts for each in attempts.take_due(now_s=2 * REPEAT_S + 1)] == [1]


def test_many_kinds_are_written_slowly_and_too_many_are_counted() -> None:
    attempts = Attempts(now_s=0)
    for number in range(KINDS_MAX + 7):
        attempts.note(refusal(number), now_s=0)
    first = attempts.take_due(now_s=0)
    assert len(first) == AT_ONCE_MAX + 1
    assert first[-1].sentence == "7 more attempts of other callers were refused or failed"
    assert first[-1].attempts == 7


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30)), max_size=400))
def test_a_day_of_refusals_stays_within_the_budget(noted: list[tuple[int, int]]) -> None:
    attempts, written, now_s = Attempts(now_s=0), 0, 0.0
    for number, pause_s in noted:
        now_s += pause_s
        attempts.note(refusal(number), now_s=now_s)
        due = attempts.take_due(now_s=now_s)
        assert len(due) <= AT_ONCE_MAX + 1
        written += len(due)
    assert written <= BUDGET_MAX + now_s * 60 / 3600 + 2


_texts = st.text(max_size=300)
_times = st.builds(lambda seconds, nanos: {"seconds": seconds, "nanos": nanos},
                   st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))  # fmt: skip
_filters = st.fixed_dictionaries(
    {},
    optional={
        "since": _times, "user": _texts, "method": _texts, "node": _texts,
        "outcome": st.integers(-5, 9), "limit": st.integers(0, 2**32 - 1),
        "newest_first": st.booleans(), "follow": st.booleans(),
    },
)  # fmt: skip


@given(_filters, st.lists(st.builds(refusal, st.integers(0, 3)), max_size=4))
def test_every_filter_is_refused_or_decides(
    fields: dict[str, object], records: list[Record]
) -> None:
    request = ListRequest(**fields)  # type: ignore[arg-type]  # of the right types
    try:
        check_filter(request)
    except InvalidArgumentError as error:
        remedy = error.remedy
    else:
        remedy = "not needed"
        assert matches(request, None)
        for record in records:
            decided = matches(request, record)
            if decided and request.user:
                assert record.actor.identity == request.user
            if not fields:
                assert decided
    assert remedy
