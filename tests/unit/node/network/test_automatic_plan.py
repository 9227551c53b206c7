# SPDX-License-Identifier: Apache-2.0
"""Which device a machine without a configuration uses."""

import math

import pytest

from metropolis.node.network.automatic_plan import PATIENCE_S, Candidate, choose_device


def card(index: int, *, cable: bool = True, answered_s: float | None = None) -> Candidate:
    return Candidate(index=index, name=f"eth{index}", has_carrier=cable, answered_s=answered_s)


def test_a_single_device_is_used_as_soon_as_it_answers() -> None:
    choice = choose_device([card(1, answered_s=5.0)], None, now_s=5.0)
    assert (choice.chosen, choice.asks, choice.waits_for) == (1, [1], "")


def test_an_answer_waits_a_moment_for_devices_before_it_and_not_for_those_after_it() -> None:
    cards = [card(1), card(2, answered_s=5.0), card(3)]
    waiting = choose_device(cards, None, now_s=5.0)
    assert waiting.chosen is None
    assert waiting.asks == [1, 2, 3]
    assert waiting.look_again_s == 5.0 + PATIENCE_S
    assert waiting.waits_for == "a DHCP server at eth1, for 3 s"
    assert choose_device(cards, None, now_s=5.0 + PATIENCE_S).chosen == 2
    late = [card(1, answered_s=6.0), *cards[1:]]
    assert choose_device(late, None, now_s=6.0).chosen == 1


def test_devices_without_a_cable_are_not_waited_for() -> None:
    cards = [card(1, cable=False), card(2, answered_s=5.0)]
    assert choose_device(cards, None, now_s=5.0).chosen == 2


def test_the_choice_stays_while_it_holds_a_lease() -> None:
    cards = [card(1, answered_s=1.0), card(2, answered_s=5.0)]
    choice = choose_device(cards, 2, now_s=9.0)
    assert (choice.chosen, choice.asks) == (2, [2])


def test_a_pulled_cable_lets_the_others_be_asked_and_changes_nothing_until_one_answers() -> None:
    cards = [card(1), card(2, cable=False, answered_s=5.0)]
    choice = choose_device(cards, 2, now_s=9.0)
    assert (choice.chosen, choice.asks) == (2, [1, 2])
    assert choice.waits_for == "a cable in eth2"
    cards = [card(1, answered_s=10.0), card(2, cable=False, answered_s=5.0)]
    assert choose_device(cards, 2, now_s=10.0).chosen == 1


def test_a_lost_lease_or_device_begins_the_search_anew() -> None:
    assert choose_device([card(1), card(2)], 2, now_s=9.0).asks == [1, 2]
    assert choose_device([card(1)], 2, now_s=9.0).chosen is None


@pytest.mark.parametrize(
    ("cards", "text"),
    [
        ([], "an Ethernet device: this machine has none, or no driver for it"),
        ([card(1, cable=False), card(2, cable=False)], "a cable in eth1 or eth2"),
        ([card(1, cable=False), card(2)], "a DHCP server at eth2"),
    ],
    ids=["no device", "no cable", "no server"],
)
def test_it_says_what_it_waits_for(cards: list[Candidate], text: str) -> None:
    choice = choose_device(cards, None, now_s=0.0)
    assert choice.waits_for == text
    assert math.isinf(choice.look_again_s)
