# SPDX-License-Identifier: Apache-2.0
"""Counters that keep one peer from taking everything."""

import pytest

from metropolis.rpc.limits import RateWindow, Tally


def test_a_tally_grants_up_to_its_limit_and_again_what_was_released() -> None:
    tally = Tally()
    assert [tally.acquire("a", limit=2) for _ in range(3)] == [True, True, False]
    assert tally.acquire("b", limit=1)
    tally.release("a")
    assert tally.held("a") == 1
    assert tally.acquire("a", limit=2)


def test_a_tally_forgets_who_holds_nothing() -> None:
    tally = Tally()
    for number in range(1000):
        assert tally.acquire(f"address {number}", limit=1)
        tally.release(f"address {number}")
    assert not tally._held


def test_releasing_what_was_never_granted_is_a_bug() -> None:
    with pytest.raises((AssertionError, KeyError)):
        Tally().release("a")


def test_a_window_counts_anew_when_it_is_over() -> None:
    window = RateWindow(2, 10.0)
    assert [window.is_exceeded(now_s) for now_s in (0.0, 1.0, 9.9)] == [False, False, True]
    assert [window.is_exceeded(now_s) for now_s in (10.0, 10.0, 10.1)] == [False, False, True]
