# SPDX-License-Identifier: Apache-2.0
"""Passwords that people read to each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.passwords import HashedPassword, new_password


def test_a_password_has_128_bits_in_groups_that_people_can_read() -> None:
    text, _hashed = new_password(SimEntropy(1))
    groups = text.split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 4, 4, 4, 2]
    assert set("".join(groups)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert text != new_password(SimEntropy(2))[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_password_is_recognized_however_it_is_typed(seed: int) -> None:
    text, hashed = new_password(SimEntropy(seed))
    misread = text.replace("O", "0").replace("I", "1").replace("B", "8")
    for typed in (text, text.lower(), text.replace("-", ""), f" {text}\n", misread):
        assert hashed.is_shown_by(typed)


@given(st.text(max_size=200))
def test_nothing_else_is_taken_for_it(text: str) -> None:
    right, hashed = new_password(SimEntropy(3))
    assert not hashed.is_shown_by(text)
    assert not hashed.is_shown_by(right[:-1])
    assert not hashed.is_shown_by(right + "A")


def test_no_password_at_all_is_shown_by_nothing() -> None:
    empty = HashedPassword(salt=b"", digest=b"")
    assert not any(empty.is_shown_by(text) for text in ("", "A" * 26, "\x00"))


def test_what_is_kept_never_shows() -> None:
    text, hashed = new_password(SimEntropy(4))
    assert "salt" not in repr(hashed)
    assert text not in repr(hashed)
