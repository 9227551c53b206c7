# SPDX-License-Identifier: Apache-2.0
"""What is written to the terminal turns the old screen into the new one, and is short."""

from dataclasses import replace

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.ctl.dashboard.layout import lay_out
from metropolis.ctl.dashboard.model import Model
from metropolis.ctl.dashboard.paint import COLORS, NO_COLORS, Palette, paint
from metropolis.ctl.dashboard.screen import Screen, Span, Style, line, text_of
from metropolis.ctl.dashboard.view import Pane, View, settle
from unit.ctl.dashboard.clusters import HEALTHY, ILL, LEADERLESS, MANY, NOW_S, a_node

WIDTH, HEIGHT = 80, 24
IDLE_BYTES_PER_S_MAX = 2000


class Emulator:
    """A terminal in memory."""

    def __init__(self, width: int, height: int) -> None:
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self._screen)

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    @property
    def text(self) -> str:
        return "".join(row.rstrip() + "\n" for row in self._screen.display)

    def colors(self) -> set[str]:
        cells = (cell for row in self._screen.buffer.values() for cell in row.values())
        return {color for cell in cells for color in (cell.fg, cell.bg)} - {"default"}


def laid_out(model: Model, view: View, *, now_s: float = NOW_S) -> Screen:
    return lay_out(model, settle(view, model), width=WIDTH, height=HEIGHT, now_s=now_s)


SCREENS = st.builds(
    laid_out,
    st.sampled_from([HEALTHY, ILL, LEADERLESS, MANY, Model(cluster="demo")]),
    st.builds(
        View,
        pane=st.sampled_from(Pane),
        is_help=st.booleans(),
        filter_text=st.sampled_from(["", "kw", "nothing"]),
    ),
)
ROWS = st.builds(
    line,
    st.builds(Span, text=st.text("ab 日é\u0301", max_size=9), style=st.sampled_from(Style)),
    st.builds(Span, text=st.text("ab 日é\u0301", max_size=9), style=st.sampled_from(Style)),
    width=st.just(12),
)
SMALL_SCREENS = st.lists(ROWS, max_size=4)


@given(st.lists(SCREENS, min_size=1, max_size=5), st.sampled_from([COLORS, NO_COLORS]))
def test_a_terminal_shows_the_last_of_several_pages(
    screens: list[Screen], palette: Palette
) -> None:
    emulator = Emulator(WIDTH, HEIGHT)
    before: Screen | None = None
    for screen in screens:
        emulator.feed(paint(before, screen, palette))
        before = screen
        assert emulator.text == text_of(screen)


@given(SMALL_SCREENS, SMALL_SCREENS)
def test_a_change_leaves_what_painting_anew_leaves(old: Screen, new: Screen) -> None:
    changed, anew = Emulator(12, 4), Emulator(12, 4)
    changed.feed(paint(None, old, COLORS))
    changed.feed(paint(old, new, COLORS))
    anew.feed(paint(None, new, COLORS))
    assert changed.text == anew.text


def test_what_did_not_change_is_not_written() -> None:
    assert paint(laid_out(ILL, View()), laid_out(ILL, View()), COLORS) == ""


def test_an_idle_cluster_costs_a_slow_line_next_to_nothing() -> None:
    written = 0
    before = laid_out(MANY, View())
    for second in range(1, 61):  # all heartbeats and the age change every second
        nodes = tuple(replace(node, heartbeat=f"{second % 7}s") for node in MANY.nodes)
        model = replace(MANY, nodes=nodes, taken_s=NOW_S + second - second % 2)
        after = laid_out(model, View(), now_s=NOW_S + second)
        written += len(paint(before, after, COLORS).encode())
        before = after
    assert written / 60 <= IDLE_BYTES_PER_S_MAX / 5


def test_moving_the_selection_is_a_small_change() -> None:
    first = View(selected_id=HEALTHY.nodes[0].node_id)
    second = View(selected_id=HEALTHY.nodes[1].node_id)
    same_log = replace(HEALTHY, explained_id="", logged_id="")
    change = paint(laid_out(same_log, first), laid_out(same_log, second), COLORS)
    assert len(change.encode()) < 600


@pytest.mark.parametrize(("palette", "is_colored"), [(COLORS, True), (NO_COLORS, False)])
def test_without_colours_there_are_none(palette: Palette, is_colored: bool) -> None:
    emulator = Emulator(WIDTH, HEIGHT)
    emulator.feed(paint(None, laid_out(replace(ILL, problem="gone"), View()), palette))
    assert bool(emulator.colors()) is is_colored
    assert a_node(1).node_id.removeprefix("metropolis-")[:12] in emulator.text
