# SPDX-License-Identifier: Apache-2.0
"""Who may have a machine, and from which rack it comes."""

from hypothesis import given
from hypothesis import strategies as st

from metropolis.metal.rules.placement import Reserved, choose_racks, may_take


def reserved(project: str, amount: int, used: int = 0) -> Reserved:
    return Reserved(project_id=project, amount=amount, used=used)


def test_whoever_has_no_reservation_gets_what_is_left_of_the_others() -> None:
    assert may_take("red", 3, [reserved("blue", 2)])
    assert not may_take("red", 2, [reserved("blue", 2)])
    assert may_take("red", 2, [reserved("blue", 2, used=1)])


def test_whoever_has_a_free_reservation_gets_a_machine_although_others_have_more() -> None:
    assert may_take("red", 1, [reserved("blue", 9), reserved("red", 1)])
    assert not may_take("red", 1, [reserved("blue", 9), reserved("red", 1, used=1)])


def test_a_reservation_that_is_more_than_used_up_gives_nothing_to_others() -> None:
    assert not may_take("red", 2, [reserved("blue", 1, used=5), reserved("green", 2)])


def test_nobody_gets_a_machine_that_is_not_there() -> None:
    assert not may_take("red", 0, [])
    assert not may_take("red", 0, [reserved("red", 1)])


def test_machines_of_a_project_are_spread_over_racks() -> None:
    assert choose_racks(["a", "b", "c"], {"a": 2, "b": 1, "c": 1}, None) == ["b", "c"]


def test_machines_with_the_same_placement_tag_are_kept_apart_first() -> None:
    assert choose_racks(["a", "b", "c"], {"a": 1, "b": 0, "c": 0}, {"b": 1}) == ["c"]
    assert choose_racks(["a", "b"], {"a": 1, "b": 0}, {"b": 1}) == ["a"], "no rack is best in both"


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, unique=True),
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 9)),
    st.none() | st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 9)),
)
def test_there_is_always_a_rack_and_it_has_a_machine(
    racks: list[str], by_role: dict[str, int], by_tags: dict[str, int] | None
) -> None:
    chosen = choose_racks(racks, by_role, by_tags)
    assert chosen
    assert set(chosen) <= set(racks)
    if by_tags is not None:
        least = min(by_tags.get(rack, 0) for rack in racks)
        assert all(by_tags.get(rack, 0) == least for rack in chosen)
