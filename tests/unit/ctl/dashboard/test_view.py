# SPDX-License-Identifier: Apache-2.0
"""What keys do to the page."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.ctl.dashboard.keys import Char, Key, KeyPress
from metropolis.ctl.dashboard.model import Model
from metropolis.ctl.dashboard.view import FILTER_CHARS_MAX, Pane, View, press, settle
from unit.ctl.dashboard.clusters import HEALTHY, IDS, ILL, MANY


def pressed(keys: Sequence[KeyPress | str], *, model: Model = HEALTHY) -> View:
    view = settle(View(), model)
    for key in keys:
        view = press(view, Char(text=key) if isinstance(key, str) and len(key) == 1 else key, model)  # type: ignore[arg-type]  # keys and letters
    return view


def test_an_ill_node_is_selected_first_else_the_first() -> None:
    assert settle(View(), ILL).selected_id == IDS[1]
    assert settle(View(), HEALTHY).selected_id == IDS[0]
    assert settle(View(), replace(HEALTHY, nodes=())).selected_id == ""


def test_a_node_stays_selected_while_others_fall_ill_and_until_it_is_gone() -> None:
    view = settle(View(selected_id=IDS[2]), ILL)
    assert view.selected_id == IDS[2]
    assert settle(view, replace(ILL, nodes=ILL.nodes[:2])).selected_id == IDS[1]


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (["j"], 1),
        ([Key.DOWN, Key.DOWN, Key.DOWN], 2),
        (["j", "k", "k"], 0),
        (["G"], 2),
        ([Key.END, Key.HOME], 0),
        ([Key.PAGE_DOWN, Key.UP], 1),
    ],
)
def test_keys_move_the_selection(keys: list[KeyPress | str], selected: int) -> None:
    assert pressed(keys).selected_id == IDS[selected]


@pytest.mark.parametrize(
    ("keys", "pane"),
    [
        ([Key.TAB], Pane.CONSENSUS),
        ([Key.TAB] * 4, Pane.NODES),
        ([Key.BACK_TAB], Pane.LOG),
        (["3"], Pane.EXPLAIN),
        ([Key.ENTER], Pane.EXPLAIN),
        (["l"], Pane.LOG),
        (["l", Key.ESCAPE], Pane.NODES),
        (["l", "f"], Pane.NODES),
        (["9", "x", Key.LEFT], Pane.NODES),
    ],
)
def test_keys_go_to_panes(keys: list[KeyPress | str], pane: Pane) -> None:
    assert pressed(keys).pane is pane


def test_a_filter_is_typed_kept_and_dropped() -> None:
    typing = pressed(["f", "k", "w", "q"])
    assert (typing.is_typing, typing.filter_text, typing.is_over) == (True, "kwq", False)
    kept = pressed(["f", "k", "w", "q", Key.BACKSPACE, Key.ENTER])
    assert (kept.is_typing, kept.filter_text, kept.selected_id) == (False, "kw", IDS[2])
    changed = press(press(kept, Char(text="f"), HEALTHY), Char(text="x"), HEALTHY)
    assert press(changed, Key.ESCAPE, HEALTHY).filter_text == "kw"
    assert press(kept, Key.ESCAPE, HEALTHY).filter_text == ""
    assert len(pressed(["f", *"x" * 100]).filter_text) == FILTER_CHARS_MAX


def test_the_log_scrolls_from_its_end_and_not_beyond() -> None:
    assert pressed(["l", "k", "k"]).back[Pane.LOG] == 2
    assert pressed(["l", "k", "j", "j"]).back[Pane.LOG] == 0
    assert pressed(["l", Key.PAGE_UP, Key.PAGE_UP]).back[Pane.LOG] == len(HEALTHY.log) - 1
    assert pressed(["l", "k", "1", "j", "l"]).back == {}  # another node, another log


def test_help_closes_on_any_key_and_q_quits_from_there() -> None:
    assert pressed(["?"]).is_help
    closed = pressed(["?", "j"])
    assert (closed.is_help, closed.selected_id) == (False, IDS[0])
    assert pressed(["?", "q"]).is_over


@pytest.mark.parametrize("keys", [["q"], [Key.INTERRUPT], ["f", Key.INTERRUPT]])
def test_quitting_works_everywhere(keys: list[KeyPress | str]) -> None:
    assert pressed(keys).is_over


@given(
    st.lists(
        st.one_of(st.sampled_from(Key), st.builds(Char, text=st.sampled_from("12345jkgGlfqh?/x"))),
        max_size=30,
    ),
    st.sampled_from([HEALTHY, ILL, MANY, replace(HEALTHY, nodes=(), log=(), members=())]),
)
def test_no_keys_select_what_is_not_there(keys: list[KeyPress], model: Model) -> None:
    view = settle(View(), model)
    for key in keys:
        view = press(view, key, model)
        assert view.selected_id in ("", *(node.node_id for node in model.nodes))
        assert all(back >= 0 for back in view.back.values())
