# SPDX-License-Identifier: Apache-2.0
"""The dashboard on a real pseudo-terminal: what is seen, what keys do, how the terminal is left."""

import re
import signal
from dataclasses import replace

import pytest

from metropolis.api import introspection_pb2 as wire
from metropolis.base.errors import PermissionDeniedError, UnavailableError
from metropolis.ctl.dashboard.layout import lay_out
from metropolis.ctl.dashboard.model import MemberRow, Model, NodeRow
from metropolis.ctl.dashboard.screen import text_of
from metropolis.ctl.dashboard.view import Pane, View
from unit.ctl.dashboard.program import ENTERED, Program, Size, on_terminal
from unit.ctl.remote import Remote, a_log_entry, a_node

FAST = ["dashboard", "--interval", "0.2"]
LOG_TEXT = "the first line of the log"
ONE_VOTE = "1 of 1 voting members can be reached; none more may fail before changes stop."
SIZES: list[Size] = [(132, 43), (60, 15), (40, 8)]


@pytest.fixture
def page(remote: Remote) -> Model:
    """What the dashboard is to show of a cluster of one node that serves and one that does not."""
    other = remote.add(a_node(0xB1))
    remote.keeps_logs_open = True
    remote.backlog = [a_log_entry(LOG_TEXT)]
    remote.members.etcd_member.add(id=remote.own.id, status=remote.members.EtcdMember.STATUS_FULL)
    remote.own_member.members.add(is_leader=True, reachable=True, raft_index=7)
    remote.explanation.findings.add(
        code="X", summary="It is odd.", remedy="Look.", severity=wire.Finding.SEVERITY_WARNING
    )
    return Model(
        cluster=remote.address,
        nodes=tuple(
            sorted(
                (
                    NodeRow(
                        node_id=remote.own.id,
                        state="UP",
                        health="HEALTHY",
                        roles=("ConsensusMember",),
                        address=remote.address,
                        heartbeat="3s",
                    ),
                    NodeRow(
                        node_id=other.id,
                        state="UP",
                        health="UNKNOWN",
                        roles=(),
                        address="",
                        heartbeat="never",
                    ),
                ),
                key=lambda row: row.node_id,
            )
        ),
        members=(
            MemberRow(
                node_id=remote.own.id,
                vote="yes",
                is_raft_leader=True,
                is_reachable=True,
                raft_index=7,
                error="",
            ),
        ),
        summary=ONE_VOTE,
        leader_id=remote.own.id,
        taken_s=0.0,
        explained_id=remote.own.id,
        explanation=(
            "warning: It is odd. [X]",
            "  Look.",
            "Nothing keeps it from doing its work.",
        ),
        logged_id=remote.own.id,
        log=(f"           enrolment I {LOG_TEXT}",),
    )


def wait_page(program: Program, model: Model, view: View, size: Size) -> None:
    """Wait until the terminal shows exactly this, apart from how old it is."""
    width, height = size
    expected = text_of(lay_out(model, view, width=width, height=height, now_s=0.0))
    program.wait(lambda: ageless(program.text) == ageless(expected))


def ageless(text: str) -> str:
    return re.sub(r" +\d+ s ago", " 0 s ago", text)


def test_the_page_fits_the_terminal_follows_its_size_and_obeys_keys(
    remote: Remote, owner: list[str], page: Model
) -> None:
    with on_terminal([*owner, *FAST, remote.own.id]) as program:
        view = View(selected_id=remote.own.id)
        wait_page(program, page, view, (80, 24))
        for size in SIZES:
            program.resize(size)
            wait_page(program, page, view, size)
        program.resize((80, 24))
        program.type("\t")
        wait_page(program, page, replace(view, pane=Pane.CONSENSUS), (80, 24))
        program.type("l")
        wait_page(program, page, replace(view, pane=Pane.LOG), (80, 24))
        program.type("?")
        wait_page(program, page, replace(view, pane=Pane.LOG, is_help=True), (80, 24))
        program.type(" \x1b[Z\r1fHEALTHY")
        typing = replace(view, is_typing=True, filter_text="HEALTHY")
        wait_page(program, page, typing, (80, 24))
        program.type("\r")
        wait_page(program, page, replace(typing, is_typing=False), (80, 24))
        assert "red" not in program.colors
        assert program.colors
        program.type("q")
        assert program.wait_end() == 0
        assert program.is_given_back


def test_the_selected_node_is_the_one_that_is_explained(
    remote: Remote, owner: list[str], page: Model
) -> None:
    other = next(node.node_id for node in page.nodes if node.node_id != remote.own.id)
    with on_terminal([*owner, *FAST], environment={"NO_COLOR": "1"}) as program:
        program.wait_text(f"Explain {other[11:23]}")  # it is not healthy
        program.wait_text("It is odd. [X]")
        assert other in {request.node_id for request in remote.requests("ExplainNode")}
        program.wait_text("The log cannot be read: node")  # in place of its log
        assert not program.colors
        program.type("G" if page.nodes[0].node_id == other else "g")
        program.wait_text(LOG_TEXT)
        program.type("\x03")
        assert program.wait_end() == 130
        assert program.is_given_back


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_gives_the_terminal_back(
    remote: Remote, owner: list[str], number: signal.Signals, status: int
) -> None:
    with on_terminal([*owner, *FAST]) as program:
        program.wait_text("healthy")
        assert ENTERED in program.output
        program.process.send_signal(number)
        assert program.wait_end() == status
        assert program.is_given_back
        assert remote.own.id


def test_an_error_that_waiting_does_not_mend_is_told_on_the_terminal_as_it_was(
    remote: Remote, owner: list[str]
) -> None:
    with on_terminal([*owner, *FAST]) as program:
        program.wait_text("healthy")
        remote.refusals["GetNodes"] = PermissionDeniedError("not for you", remedy="Ask the owner.")
        assert program.wait_end() == 1
        assert program.is_given_back
        told = program.output.rpartition(b"\x1b[?1049l")[2].decode()
        assert "error: not for you" in told
        assert "remedy: Ask the owner." in told


def test_a_lost_leader_is_said_in_the_header_and_what_was_known_stays(
    remote: Remote, owner: list[str]
) -> None:
    with on_terminal([*owner, "--timeout", "0.4", *FAST]) as program:
        program.wait_text("healthy")
        remote.refusals["GetNodes"] = UnavailableError("lost the election", remedy="Wait.")
        program.wait_text("NO LEADER ANSWERS: what is shown is")
        program.wait_text("1 s old")
        assert remote.own.id.removeprefix("metropolis-")[:12] in program.text
        del remote.refusals["GetNodes"]
        program.wait_text("1 of 1 healthy")
        assert "NO LEADER" not in program.text


def test_a_line_that_stalls_gets_the_newest_state_when_it_moves_again(
    remote: Remote, owner: list[str]
) -> None:
    with on_terminal([*owner, *FAST]) as program:
        program.wait_text("1 of 1 healthy")
        program.stall()
        remote.add(a_node(0xB1, address="192.0.2.1"))
        program.type("\x0c")
        asked, before = len(remote.requests("GetNodes")), len(program.output)
        program.wait(lambda: len(remote.requests("GetNodes")) >= asked + 5)
        assert len(program.output) == before
        program.go_on()
        program.wait_text("2 of 2 healthy")
        program.type("q")
        assert program.wait_end() == 0
        assert program.is_given_back


def test_a_signal_ends_it_even_while_the_line_is_stalled(remote: Remote, owner: list[str]) -> None:
    with on_terminal([*owner, *FAST]) as program:
        program.wait_text("1 of 1 healthy")
        before = program.settings
        program.stall()
        program.type("\x0c")
        asked = len(remote.requests("GetNodes"))
        program.wait(lambda: len(remote.requests("GetNodes")) >= asked + 5)
        program.process.send_signal(signal.SIGTERM)
        assert program.wait_end() == 143
        assert program.settings != before


def test_an_idle_page_costs_little(remote: Remote, owner: list[str], page: Model) -> None:
    remote.add(a_node(0xC1))
    with on_terminal([*owner, *FAST, remote.own.id], size=(132, 43)) as program:
        program.wait_text("It is odd")
        program.wait_text(LOG_TEXT)
        before, asked = len(program.output), len(remote.requests("GetNodes"))
        program.wait(lambda: len(remote.requests("GetNodes")) >= asked + 10)
        assert len(program.output) - before <= 10 * 200  # 2 KB/s would allow ten times that
        assert page.nodes
