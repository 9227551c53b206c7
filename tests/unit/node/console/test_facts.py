# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from metropolis.node.console.facts import (
    Facts,
    Problem,
    Progress,
    Troubles,
    announcements,
    awaited,
)
from metropolis.supervision.entries import LeveledEntry, RawEntry, Severity
from metropolis.supervision.status import RunnableStatus, State

NOTHING = Progress(has_addresses=False, has_identity=False, has_roles=False, is_heard=False)
FACTS = Facts(product="Metropolis Node 1.2.3", variant="x86_64")


def entry(dn: str, severity: Severity, *lines: str) -> LeveledEntry:
    return LeveledEntry(
        dn=dn, lines=lines, timestamp=datetime.now(UTC), severity=severity, file="x.py", line=1
    )


def status(state: State) -> RunnableStatus:
    return RunnableStatus(
        state=state, since_s=0, restarts=1, last_error="x", backoff_until_s=None, stuck_at=None
    )


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        (NOTHING, "an address for this machine"),
        (replace(NOTHING, network="a DHCP server at eth0"), "a DHCP server at eth0"),
        (replace(NOTHING, has_addresses=True), "its enrolment in a cluster"),
        (
            replace(NOTHING, has_addresses=True, enrolment="approval: metroctl x"),
            "approval: metroctl x",
        ),
        (
            replace(NOTHING, has_addresses=True, has_identity=True),
            "what the cluster asks of this node",
        ),
        (
            replace(NOTHING, has_addresses=True, has_identity=True, has_roles=True),
            "the cluster's leader to hear this node",
        ),
        (Progress(has_addresses=True, has_identity=True, has_roles=True, is_heard=True), ""),
    ],
)
def test_whatever_is_awaited_is_one_sentence(progress: Progress, sentence: str) -> None:
    assert awaited(progress) == sentence


def test_a_failure_is_shown_until_its_runnable_is_healthy() -> None:
    troubles = Troubles()
    failed = entry(
        "root.enrolment",
        Severity.FATAL,
        "runnable returned error: the disk is of another node",
        "remedy: Put it back.",
        "DataLossError, raised in:",
    )
    assert troubles.hear(failed)
    problem = troubles.current(lambda: {"root.enrolment": status(State.DEAD)})
    assert problem == Problem(
        dn="root.enrolment", cause="the disk is of another node", next_step="Put it back."
    )
    assert troubles.current(lambda: {"root.enrolment": status(State.HEALTHY)}) is None
    assert troubles.current(lambda: {"root.enrolment": status(State.DEAD)}) is None


def test_what_the_enrolment_says_is_remembered_and_raw_lines_are_not() -> None:
    troubles = Troubles()
    raw = RawEntry(dn="root.enrolment", data=b"noise", original_length=5)
    assert not troubles.hear(raw)
    assert not troubles.hear(entry("root.role", Severity.INFO, "hello"))
    assert not troubles.hear(entry("root.enrolment", Severity.INFO, "Enrolment: keys created"))
    assert troubles.enrolment == ""
    assert troubles.hear(entry("root.enrolment", Severity.INFO, "Waiting for approval"))
    assert troubles.enrolment == "approval"
    assert troubles.hear(entry("root.enrolment", Severity.WARNING, "Nobody answers"))
    assert troubles.enrolment == "Nobody answers"
    assert troubles.hear(entry("root.enrolment", Severity.INFO, "Cluster enrolment done."))
    assert troubles.enrolment == ""


def test_programs_can_rely_on_the_lines_of_the_serial_console() -> None:
    now = replace(
        FACTS,
        node_id="metropolis-00",
        addresses=("10.0.0.1", "fd00::1"),
        ca_fingerprint="ab" * 32,
        roles=("ConsensusMember",),
        system="slot A, confirmed",
    )
    assert announcements(None, now) == [
        "address 10.0.0.1, fd00::1",
        "node metropolis-00",
        f"cluster CA sha256:{'ab' * 32}",
        "roles ConsensusMember",
        "system slot A, confirmed",
    ]
    assert announcements(now, now) == []
    troubled = replace(now, problem=Problem(dn="x", cause="it burns", next_step="Run."))
    assert announcements(now, troubled) == ["problem: it burns", "next step: Run."]
    assert announcements(troubled, now) == []
