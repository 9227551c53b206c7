# SPDX-License-Identifier: Apache-2.0
"""Whom a node believes about where the others are."""

from metropolis.node.roles.whereabouts import Whereabouts


def moved() -> Whereabouts:
    """Node a, at a2, whose disk remembers where everybody was before they moved."""
    return Whereabouts("a", "a2", {"a": "a1", "b": "b1", "c": "c1"})


def test_a_node_knows_best_where_it_is_itself() -> None:
    where = moved()
    assert where.addresses == {"a": "a2", "b": "b1", "c": "c1"}
    where.introduce({"a": "wrong"})
    where.hear({"a": "a1", "b": "b1"})
    assert where.addresses == {"a": "a2", "b": "b1"}


def test_outdated_records_of_the_cluster_do_not_undo_an_introduction() -> None:
    where = moved()
    where.introduce({"b": "b2", "c": "c2", "d": "d2"})
    where.hear({"a": "a1", "b": "b1", "c": "c1", "d": "d2"})
    assert where.addresses == {"a": "a2", "b": "b2", "c": "c2", "d": "d2"}
    where.hear({"b": "b2", "c": "c1"})
    assert where.addresses == {"a": "a2", "b": "b2", "c": "c2"}


def test_what_is_new_is_believed_and_from_then_on_everything() -> None:
    where = moved()
    where.introduce({"b": "b2"})
    where.hear({"b": "b3"})
    assert where.addresses["b"] == "b3"
    where.hear({"b": "b1"})
    assert where.addresses["b"] == "b1", "it went back"
