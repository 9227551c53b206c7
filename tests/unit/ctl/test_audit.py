# SPDX-License-Identifier: Apache-2.0
"""What operators see of the audit log, and how they notice that somebody touched it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metropolis.api.audit_pb2 import (
    OUTCOME_DENIED,
    OUTCOME_DONE,
    OUTCOME_FAILED,
    Actor,
    GetHeadResponse,
    Head,
    Record,
)
from metropolis.base.errors import InvalidArgumentError
from metropolis.cluster.planner.audit import grow
from metropolis.ctl import audit_log
from metropolis.ctl.audit_log import Entry
from metropolis.formats.audit.chain import decode, head_text
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ctl"
NODE = "metropolis-1a2b3c4d5e6f708192a3b4c5d6e7f809"
OWNER = Actor(
    kind=Actor.KIND_USER, identity="owner", address="10.1.0.1", key_fingerprint=b"\x0e" * 32
)
MACHINE = Actor(kind=Actor.KIND_KEY, address="10.1.0.4", key_fingerprint=b"\xab" * 32)


def records() -> list[Record]:
    """A node comes in, somebody is turned away, and the log is shortened."""
    made = [
        Record(
            actor=MACHINE,
            method="Curator.RegisterNode",
            object=NODE,
            sentence="registered, waits for approval",
        ),
        Record(
            actor=OWNER,
            method="Management.ApproveNode",
            object=NODE,
            sentence="approved: NEW => STANDBY",
        ),
        Record(
            actor=Actor(kind=Actor.KIND_USER, identity="ada", address="10.1.0.9"),
            method="Management.DeleteNode",
            object=NODE,
            outcome=OUTCOME_DENIED,
            code="permission-denied",
            sentence="user 'ada' missing node.delete permission",
            attempts=3,
        ),
        Record(
            actor=Actor(kind=Actor.KIND_NODE, identity=NODE, address="10.1.0.4"),
            method="Curator.IssueCertificate",
            outcome=OUTCOME_FAILED,
            code="unimplemented",
            sentence="this build has no Kubernetes",
            attempts=1,
        ),
        Record(
            actor=Actor(kind=Actor.KIND_LEADER, identity=NODE),
            method="Leader.Synchronize",
            object=NODE,
            sentence="wrote 1 and deleted 0 keys",
        ),
    ]
    for second, record in enumerate(made):
        record.time.FromDatetime(datetime(2026, 2, 28, 13, 30, 40 + second, tzinfo=UTC))
        record.leader = NODE
        record.outcome = record.outcome or OUTCOME_DONE
    return made


def tell(remote: Remote) -> Head:
    """Let the cluster have these records."""
    growth = grow(Head(), records(), (), None)
    remote.audit = list(growth.added)
    remote.audit_head = GetHeadResponse(head=growth.head)
    return growth.head


def entries() -> list[Entry]:
    growth = grow(Head(), records(), (), None)
    told = [Entry(sequence=number, record=decode(stored)) for number, stored in growth.added]
    return [*told, Entry(sequence=6, record=None)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("audit_list", audit_log.table(entries(), is_wide=False, width=80)),
        ("audit_list_wide", audit_log.table(entries(), is_wide=True)),
        ("audit_follow", "".join(f"{audit_log.one_line(entry)}\n" for entry in entries())),
    ],
)
def test_what_people_read_is_what_was_written_down(name: str, text: str) -> None:
    assert text == (GOLDEN / f"{name}.txt").read_text()


def test_a_list_fits_80_columns() -> None:
    assert max(map(len, audit_log.table(entries(), is_wide=False, width=80).splitlines())) <= 80


def test_records_are_listed_for_people_and_programs(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    tell(remote)
    shown = metroctl([*owner, "audit", "list"])
    assert (shown.status, shown.err) == (0, "")
    assert shown.out == audit_log.table(entries()[:-1], is_wide=False)
    documents = json.loads(metroctl([*owner, "audit", "list", "-o", "json"]).out)
    assert [each["sequence"] for each in documents] == ["1", "2", "3", "4", "5"]
    assert documents[1]["actor"]["identity"] == "owner"
    assert documents[1]["actor"]["key_fingerprint"] == "0e" * 32
    assert documents[2]["outcome"] == "OUTCOME_DENIED"
    remote.audit = []
    nothing = metroctl([*owner, "audit", "list"])
    assert (nothing.status, nothing.out, nothing.err) == (0, "", "No record matches.\n")


def test_filters_are_the_clusters_work(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    metroctl([*owner, "audit", "list", "--since", "2026-02-28T13:30:00Z", "--user", "ada",
              "--method", "Delete", "--node", "1a2b", "--outcome", "denied", "--limit", "7",
              "--newest-first"])  # fmt: skip
    (request,) = remote.requests("List")
    assert request.since.ToDatetime(tzinfo=UTC) == datetime(2026, 2, 28, 13, 30, tzinfo=UTC)
    assert (request.user, request.method, request.node) == ("ada", "Delete", "1a2b")
    assert (request.outcome, request.limit) == (OUTCOME_DENIED, 7)
    assert request.newest_first
    assert metroctl([*owner, "audit", "list", "--outcome", "deny"]).status == 1
    assert metroctl([*owner, "audit", "list", "--since", "yesterday"]).status == 1


@pytest.mark.parametrize("output", ["table", "json"])
def test_following_prints_a_line_per_record(
    metroctl: Metroctl, remote: Remote, owner: list[str], output: str
) -> None:
    tell(remote)
    done = metroctl([*owner, "audit", "list", "-f", "-o", output])
    assert done.status == 0
    assert len(done.out.splitlines()) == 5
    backlog, rest = remote.requests("List")
    assert (backlog.follow, rest.follow, rest.after) == (False, True, 5)


def test_following_goes_on_where_it_was_cut_off(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    tell(remote)
    records, remote.audit = remote.audit, remote.audit[:2]
    remote.audit_head = GetHeadResponse(head=Head(sequence=2))
    remote.audit_grows = [records[:3], records[:3], records]
    done = metroctl([*owner, "audit", "list", "-f", "--limit", "1"])
    assert done.status == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["2", "3", "4", "5"]
    assert [request.after for request in remote.requests("List")] == [0, 2, 3, 3]
    assert [request.limit for request in remote.requests("List")] == [1, 0, 0, 0]
    assert done.err.count("not heard any more") == 2


def test_an_untouched_log_verifies_and_its_end_can_be_kept(
    metroctl: Metroctl, remote: Remote, owner: list[str], tmp_path: Path
) -> None:
    head = tell(remote)
    kept = metroctl([*owner, "audit", "head"])
    assert (kept.status, kept.out) == (0, f"{head_text(head)}\n")
    (tmp_path / "head").write_text(kept.out)
    for since in (kept.out.strip(), f"@{tmp_path / 'head'}"):
        done = metroctl([*owner, "audit", "verify", "--since", since])
        assert (done.status, done.out) == (0, kept.out)
        assert done.err == "Verified 5 records: 1 to 5.\n"


def test_tampering_is_an_error_that_names_the_record(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    tell(remote)
    forged = decode(remote.audit[2][1])
    forged.actor.identity = "eve"
    remote.audit[2] = (3, forged.SerializeToString(deterministic=True))
    done = metroctl([*owner, "audit", "verify"])
    assert (done.status, done.out) == (1, "")
    assert "record 3: it was changed: record 4 names another hash for it" in done.err
    assert "remedy: Save what `metroctl audit list -o json` prints" in done.err


def test_a_log_that_was_cut_short_is_noticed_with_a_kept_end(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    kept = head_text(tell(remote))
    shorter = grow(Head(), records()[:3], (), None)
    remote.audit, remote.audit_head = list(shorter.added), GetHeadResponse(head=shorter.head)
    assert metroctl([*owner, "audit", "verify"]).status == 0
    done = metroctl([*owner, "audit", "verify", "--since", kept])
    assert done.status == 1
    assert "record 5: it is missing: the chain ends at record 3" in done.err
    assert metroctl([*owner, "audit", "verify", "--since", "1:2"]).status == 1
    assert metroctl([*owner, "audit", "verify", "--since", "@/nowhere"]).status == 1


def test_damaged_records_are_shown_as_such(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    tell(remote)
    remote.audit[1] = (2, b"\xff\xff")
    assert "DAMAGED: run `metroctl audit verify`" in metroctl([*owner, "audit", "list"]).out
    documents = json.loads(metroctl([*owner, "audit", "list", "-o", "json"]).out)
    assert documents[1] == {"sequence": "2", "is_damaged": True}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1h", datetime(2026, 1, 1, 11, tzinfo=UTC)),
        ("2d", datetime(2025, 12, 30, 12, tzinfo=UTC)),
        ("30s", datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T10:00:00+02:00", datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_ages_and_times_are_understood(text: str, moment: datetime) -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert audit_log.parse_since(text, now=now).ToDatetime(tzinfo=UTC) == moment


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "999999999w", "yesterday"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no time to begin at"):
        audit_log.parse_since(text, now=datetime(2026, 1, 1, tzinfo=UTC))
