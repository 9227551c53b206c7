# SPDX-License-Identifier: Apache-2.0
"""What the page looks like, for sizes, states and panes; the pictures are in tests/golden."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.ctl.dashboard.cells import columns
from metropolis.ctl.dashboard.layout import lay_out, share
from metropolis.ctl.dashboard.model import Model
from metropolis.ctl.dashboard.screen import text_of
from metropolis.ctl.dashboard.view import Pane, View, settle
from unit.ctl.dashboard.clusters import HEALTHY, ILL, LEADERLESS, MANY, NOW_S

GOLDEN = Path(__file__).parents[3] / "golden" / "ctl" / "dashboard"

NOTHING = Model(cluster="demo")
PAGES: dict[str, tuple[Model, View, int, int]] = {
    "healthy_80x24": (HEALTHY, View(), 80, 24),
    "healthy_132x43": (HEALTHY, View(), 132, 43),
    "ill_80x24": (ILL, View(), 80, 24),
    "ill_explained_80x24": (ILL, View(pane=Pane.EXPLAIN), 80, 24),
    "leaderless_80x24": (LEADERLESS, View(), 80, 24),
    "nothing_known_80x24": (NOTHING, View(), 80, 24),
    "many_nodes_80x24": (MANY, View(selected_id=MANY.nodes[70].node_id), 80, 24),
    "filtered_80x24": (ILL, View(filter_text="kw"), 80, 24),
    "typing_a_filter_80x24": (ILL, View(filter_text="TIMEO", is_typing=True), 80, 24),
    "log_60x15": (HEALTHY, View(pane=Pane.LOG), 60, 15),
    "small_40x8": (ILL, View(pane=Pane.EXPLAIN), 40, 8),
    "too_small_30x6": (HEALTHY, View(), 30, 6),
    "help_80x24": (HEALTHY, View(is_help=True), 80, 24),
}


def page(name: str) -> str:
    model, view, width, height = PAGES[name]
    screen = lay_out(model, settle(view, model), width=width, height=height, now_s=NOW_S)
    return text_of(screen)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_looks_as_in_its_picture(name: str) -> None:
    assert page(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@given(
    model=st.sampled_from([HEALTHY, ILL, LEADERLESS, NOTHING, MANY]),
    pane=st.sampled_from(Pane),
    size=st.tuples(st.integers(1, 200), st.integers(1, 60)),
    back=st.integers(0, 30),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_no_page_is_larger_than_the_terminal(
    model: Model, pane: Pane, size: tuple[int, int], back: int, flags: tuple[bool, bool]
) -> None:
    width, height = size
    is_help, is_typing = flags
    view = View(pane=pane, back={pane: back}, is_help=is_help, is_typing=is_typing)
    screen = lay_out(model, settle(view, model), width=width, height=height, now_s=NOW_S)
    assert len(screen) <= height
    for row in screen:
        assert sum(columns(span.text) for span in row) <= width


@given(st.text(max_size=40))
def test_nothing_that_a_cluster_says_moves_the_cursor(text: str) -> None:
    model = replace(
        HEALTHY,
        cluster=text,
        problem=text,
        summary=text,
        log=(text,),
        explanation=(text,),
        nodes=tuple(replace(node, address=text, state=text) for node in HEALTHY.nodes),
        members=tuple(replace(member, error=text) for member in HEALTHY.members),
    )
    for pane in Pane:
        view = settle(View(pane=pane), model)
        screen = lay_out(model, view, width=80, height=24, now_s=NOW_S)
        for row in screen:
            assert all(span.text.isprintable() for span in row)
            assert sum(columns(span.text) for span in row) <= 80


@given(
    rows=st.integers(0, 60),
    wants=st.fixed_dictionaries({pane: st.integers(0, 60) for pane in Pane}),
    focus=st.sampled_from(Pane),
)
def test_rows_are_shared_out_and_none_is_wasted(
    rows: int, wants: dict[Pane, int], focus: Pane
) -> None:
    shares = share(rows, wants, focus=focus)
    assert sum(shares.values()) == min(rows, sum(wants.values()))
    assert all(0 <= shares[pane] <= wants[pane] for pane in Pane)


def test_the_selected_node_is_on_the_page_wherever_it_is_in_the_list() -> None:
    for node in MANY.nodes:
        view = View(selected_id=node.node_id)
        text = text_of(lay_out(MANY, view, width=80, height=24, now_s=NOW_S))
        assert f"▸ {node.node_id.removeprefix('metropolis-')[:20]}" in text


def test_the_log_shows_its_end_and_scrolls_back() -> None:
    view = View(pane=Pane.LOG, selected_id=HEALTHY.logged_id)
    end = text_of(lay_out(HEALTHY, view, width=80, height=10, now_s=NOW_S))
    assert "compaction 9 of 9" in end
    assert "compaction 2 of 9" not in end
    older = replace(view, back={Pane.LOG: 2})
    back = text_of(lay_out(HEALTHY, older, width=80, height=10, now_s=NOW_S))
    assert "compaction 9 of 9" not in back
    assert "compaction 7 of 9" in back
    assert "compaction 1 of 9" in back


def test_old_data_says_how_old_it_is_and_why() -> None:
    header = page("leaderless_80x24").splitlines()[0]
    assert "NO LEADER ANSWERS: what is shown is 42 s old (cannot reach 10.1.0.2" in header
    assert "10.1.0.4" in page("leaderless_80x24")
