# SPDX-License-Identifier: Apache-2.0
"""Which labels a node may get."""

import pytest

from metropolis.base.errors import InvalidArgumentError, OutOfRangeError
from metropolis.cluster.planner.labels import CHANGES_MAX, at_enrolment, said, updated

FULL = {f"key-{number:03}": "x" for number in range(128)}


def test_an_update_sets_changes_and_deletes_and_sorts() -> None:
    after = updated({"b": "1", "c": "2"}, [("a", ""), ("b", "3")], ["c", "absent"])
    assert list(after.items()) == [("a", ""), ("b", "3")]


@pytest.mark.parametrize(
    ("upserts", "deletes"),
    [
        pytest.param([("", "x")], [], id="empty key"),
        pytest.param([("-a", "x")], [], id="bad key"),
        pytest.param([("a/b/c", "x")], [], id="two slashes"),
        pytest.param([("a", "b c")], [], id="bad value"),
        pytest.param([("a", "x" * 64)], [], id="long value"),
        pytest.param([("a", "1"), ("a", "1")], [], id="set twice"),
        pytest.param([], ["a", "a"], id="deleted twice"),
        pytest.param([("a", "1")], ["a"], id="set and deleted"),
        pytest.param([], ["A_"], id="bad key deleted"),
        pytest.param([], [f"k{i}" for i in range(CHANGES_MAX + 1)], id="too many changes"),
    ],
)
def test_a_bad_update_is_refused_whole(upserts: list[tuple[str, str]], deletes: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        updated({"a": "0"}, upserts, deletes)
    assert caught.value.remedy


def test_a_node_has_at_most_128_labels() -> None:
    assert len(updated(FULL, [("key-000", "y")], [])) == 128
    assert len(updated(FULL, [("new", "y")], ["key-000"])) == 128
    with pytest.raises(OutOfRangeError):
        updated(FULL, [("new", "y")], [])


def test_errors_do_not_repeat_an_endless_key() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        updated({}, [("x" * 100_000, "")], [])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("last_wins", "kept"), [(False, "first"), (True, "last")])
def test_a_machine_never_fails_to_enrol_because_of_a_label(last_wins: bool, kept: str) -> None:
    pairs = [("z", "first"), ("bad key", "x"), ("a", "bad value!"), ("z", "last"), ("b", "")]
    labels, left_out = at_enrolment(pairs, last_wins=last_wins)
    assert list(labels.items()) == [("b", ""), ("z", kept)]
    assert left_out == 3


def test_a_machine_enrols_with_its_first_128_labels() -> None:
    pairs = [(f"key-{number}", "") for number in range(200)]
    labels, left_out = at_enrolment(pairs, last_wins=False)
    assert set(labels) == {f"key-{number}" for number in range(128)}
    assert left_out == 72


def test_a_request_may_have_1024_changes() -> None:
    assert CHANGES_MAX == 1024
    assert updated({}, [("a", "")], [f"k{number}" for number in range(1023)]) == {"a": ""}
    with pytest.raises(InvalidArgumentError, match="1025 label changes are more than 1024"):
        updated({}, [("a", "")], [f"k{number}" for number in range(1024)])


def test_the_audit_log_says_what_is_set_and_what_is_deleted() -> None:
    assert said([("a", "1"), ("b", "")], ["c", "d"]) == "set a=1, b=, deleted c, d"
    assert said([("a", "1")], []) == "set a=1"
    assert said([], ["c"]) == "deleted c"
