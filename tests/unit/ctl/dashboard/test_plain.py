# SPDX-License-Identifier: Apache-2.0
"""The dashboard where there is no terminal: text, once or again and again."""

import json
import os
import signal
import subprocess
import sys

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.ctl.dashboard import plain
from metropolis.ctl.dashboard.model import Model
from unit.ctl.conftest import Metroctl
from unit.ctl.dashboard.clusters import ILL, LEADERLESS
from unit.ctl.remote import Remote, a_log_entry, a_node


def test_off_a_terminal_one_snapshot_is_printed(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.backlog = [a_log_entry(f"line {number}") for number in range(5)]
    remote.members.etcd_member.add(id=remote.own.id, status=remote.members.EtcdMember.STATUS_FULL)
    remote.own_member.members.add(reachable=True, raft_index=7)
    done = metroctl([*owner, "dashboard"])
    assert (done.status, done.err) == (0, "")
    first, *_ = done.out.splitlines()
    assert first == f"Cluster {remote.address}: 1 of 1 nodes healthy, leader {remote.own.id}"
    for text in ("NODES", "CONSENSUS", f"EXPLAIN {remote.own.id}", f"LOG {remote.own.id}"):
        assert f"\n\n{text}\n" in done.out
    assert "1 of 1 voting members can be reached" in done.out
    assert "Nothing keeps it from doing its work." in done.out
    assert done.out.endswith("enrolment I line 4\n")
    assert "\x1b" not in done.out


def test_programs_read_json(metroctl: Metroctl, remote: Remote, owner: list[str]) -> None:
    document = json.loads(metroctl([*owner, "dashboard", "-o", "json"]).out)
    assert document["leader_id"] == remote.own.id
    assert [node["id"] for node in document["nodes"]] == [remote.own.id]


def test_the_named_node_is_explained_and_a_wrong_name_is_an_error(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    other = remote.add(a_node(0xB1))
    assert f"\nEXPLAIN {remote.own.id}\n" in metroctl([*owner, "dashboard", remote.own.id]).out
    assert f"\nEXPLAIN {other.id}\n" in metroctl([*owner, "dashboard"]).out  # the one that is ill
    done = metroctl([*owner, "dashboard", "f" * 32])
    assert done.status == 1
    assert "error: no such node" in done.err


def test_without_an_answer_one_snapshot_is_an_error(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.refusals["GetNodes"] = UnavailableError("no leader", remedy="Wait.")
    done = metroctl([*owner, "--timeout", "0.5", "dashboard"])
    assert (done.status, done.out) == (2, "")
    assert "error: no leader" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_prints_one_snapshot_after_the_other_also_without_a_leader(
    remote: Remote, owner: list[str], number: signal.Signals
) -> None:
    words = [*owner, "--timeout", "0.5", "dashboard", "--watch", "--interval", "0.2"]
    with subprocess.Popen(
        [sys.executable, "-m", "metropolis.ctl.metroctl", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        heads: list[str] = []
        for text in process.stdout:
            if text.startswith("Cluster "):
                heads.append(text)
            if len(heads) == 2 and not remote.refusals:
                remote.refusals["GetNodes"] = UnavailableError("no leader", remedy="Wait.")
            if "no leader answers: no leader" in text:
                break
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(20) in (130, -signal.SIGTERM)
    assert "1 of 1 nodes healthy" in heads[1]


def test_a_snapshot_says_what_is_wrong() -> None:
    text = plain.text_of(ILL)
    assert "HEARTBEAT_TIMEOUT" in text
    assert "UNREACHABLE" in text
    assert "Only 1 of 2 voting members can be reached" in text
    head, *_ = plain.text_of(LEADERLESS).splitlines()
    assert head == (
        "Cluster demo: no leader answers: cannot reach 10.1.0.2:7835: connection refused"
    )
    assert plain.text_of(Model(cluster="x\x1b[2J")).startswith("Cluster x\\x1b[2J: ")
