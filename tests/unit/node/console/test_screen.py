# SPDX-License-Identifier: Apache-2.0
"""What the screens look like, on a terminal in memory."""

from collections.abc import Sequence
from dataclasses import replace

import pyte
import pytest

from metropolis.node.console.facts import Facts, Problem
from metropolis.node.console.paint import paint
from metropolis.node.console.screen import Page, Row, compose

FACTS = Facts(product="Metropolis Node 1.2.3", variant="x86_64")
MEMBER = replace(
    FACTS,
    node_id="metropolis-3ce519dcd4667b1464af0b096873516e",
    addresses=("10.0.2.15",),
    roles=("ConsensusMember", "KubernetesController"),
    ca_fingerprint="5f" * 32,
    system="slot A, confirmed",
)
CLOCK = "2026-11-20 16:51:08 UTC"


def shown(rows: Sequence[Row], *, before: Sequence[Row] = ()) -> list[str]:
    screen = pyte.Screen(len(rows[0].text), len(rows))
    stream = pyte.Stream(screen)
    if before:
        stream.feed(paint((), before))
    stream.feed(paint(before, rows))
    return [line.rstrip() for line in screen.display]


def page(facts: Facts, *, kind: Page = Page.STATUS, log: Sequence[str] = ()) -> Sequence[Row]:
    return compose(kind, facts, log, rows=16, columns=80, clock=CLOCK)


def test_the_status_page_of_a_member() -> None:
    assert shown(page(MEMBER)) == [
        " Metropolis Node 1.2.3                                                   x86_64",
        "",
        "  Node          metropolis-3ce519dcd4667b1464af0b096873516e",
        "  Addresses     10.0.2.15",
        "  Roles         ConsensusMember, KubernetesController",
        "  Cluster CA    sha256:5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5",
        "                f5f5f5f5f",
        "  System        slot A, confirmed",
        "",
        "                This node is a member of its cluster and does its work.",
        "",
        "",
        "",
        "",
        "",
        " [Status]   Log    Tab: other page                      2026-11-20 16:51:08 UTC",
    ]


def test_what_is_not_known_waits_and_a_failure_says_its_next_step() -> None:
    facts = replace(
        FACTS,
        waits_for="its enrolment in a cluster",
        problem=Problem(dn="root.enrolment", cause="no key fits", next_step="Reinstall it."),
    )
    lines = shown(page(facts))
    assert "  Node          Waiting..." in lines
    assert "  Problem       no key fits" in lines
    assert "  Next step     Reinstall it." in lines
    assert "  Waiting for   its enrolment in a cluster" in lines


def test_the_log_page_shows_the_newest_lines() -> None:
    lines = shown(page(FACTS, kind=Page.LOG, log=[f"line {number}" for number in range(99)]))
    assert lines[1] == "line 85"
    assert lines[14] == "line 98"
    assert lines[15].startswith("  Status   [Log]   Tab: other page")


def test_only_changed_rows_are_drawn() -> None:
    first, second = page(FACTS), page(MEMBER)
    assert paint(second, second) == ""
    assert shown(second, before=first) == shown(second)
    assert len(paint(first, second)) < len(paint((), second))


@pytest.mark.parametrize(("rows", "columns"), [(8, 40), (25, 80), (60, 200), (1, 1)])
def test_every_row_is_as_wide_as_the_screen(rows: int, columns: int) -> None:
    facts = replace(
        MEMBER, waits_for="x" * 500, problem=Problem(dn="x", cause="y" * 500, next_step="")
    )
    for kind in Page:
        found = compose(kind, facts, ["z" * 500] * 99, rows=rows, columns=columns, clock=CLOCK)
        assert len(found) == max(rows, 8)
        assert {len(row.text) for row in found} == {max(columns, 40)}
