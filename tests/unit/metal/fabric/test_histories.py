# SPDX-License-Identifier: Apache-2.0
"""Whatever people do in whatever order, the books agree and nothing is our failure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.metal.fabric.history import live


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_done_in_whatever_order_the_books_agree(seed: int) -> None:
    live(seed)


@pytest.mark.parametrize("seed", range(2))
def test_a_long_history_meets_every_kind_of_answer(seed: int) -> None:
    assert live(seed, steps=200).statuses >= {200, 201, 400, 404, 409, 422}
