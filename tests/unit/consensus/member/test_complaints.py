# SPDX-License-Identifier: Apache-2.0
"""etcd's last words become errors with a remedy; its ordinary talk does not."""

from datetime import UTC, datetime

import pytest

from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnavailableError
from metropolis.consensus.member.complaints import ListeningParser
from metropolis.supervision import Severity

NOW = datetime(2022, 2, 28, tzinfo=UTC)


def hear(*lines: bytes) -> ListeningParser:
    parser = ListeningParser()
    for line in lines:
        parser.parse(line, now=NOW, is_truncated=False)
    return parser


# As etcd 3.5.16 prints them, shortened.
REMOVED = (
    b'{"level":"warn","ts":"2022-02-28T13:30:45.996Z","caller":"etcdserver/server.go:1148",'
    b'"msg":"server error","error":"the member has been permanently removed from the cluster"}'
)
UNEQUAL = (
    b'{"level":"fatal","ts":"2022-02-28T13:30:45.996Z","caller":"etcdmain/etcd.go:204","msg":'
    b'"discovery failed","error":"error validating peerURLs {...}: member count is unequal"}'
)
BOOTSTRAPPED = (
    b'{"level":"fatal","ts":"2022-02-28T13:30:45.996Z","caller":"etcdmain/etcd.go:204","msg":'
    b'"discovery failed","error":"member 1 has already been bootstrapped"}'
)
UNREACHED = (
    b'{"level":"fatal","ts":"2022-02-28T13:30:45.996Z","caller":"etcdmain/etcd.go:204","msg":'
    b'"discovery failed","error":"cannot fetch cluster info from peer urls: could not retrieve"}'
)


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (REMOVED, FailedPreconditionError, "removed from the consensus"),
        (UNEQUAL, FailedPreconditionError, "other members now"),
        (BOOTSTRAPPED, FailedPreconditionError, "data of this node is gone"),
        (UNREACHED, UnavailableError, "no other consensus member"),
    ],
)
def test_why_etcd_ended_is_understood(line: bytes, kind: type[MetropolisError], text: str) -> None:
    parser = hear(line, b"trailing line")
    error = parser.error()
    assert isinstance(error, kind)
    assert text in str(error)
    assert error.remedy.endswith(".")
    assert parser.was_removed is (line is REMOVED)


def test_ordinary_talk_is_no_complaint_even_when_it_quotes_one() -> None:
    talk = REMOVED.replace(b'"level":"warn"', b'"level":"info"')
    assert hear(talk).error() is None
    assert hear(b"", b"not json").error() is None


def test_lines_are_parsed_as_etcd_lines_all_the_same() -> None:
    entry = ListeningParser().parse(REMOVED, now=NOW, is_truncated=False)
    assert entry.severity is Severity.WARNING
    assert entry.file == "server.go"
    assert entry.text.startswith("server error")


def test_the_members_there_really_are_are_taken_from_the_complaint() -> None:
    one, two = (f"metropolis-{digit * 32}" for digit in "ab")
    listing = (
        f"{{ClusterID:6a38 Members:[&{{ID:1 RaftAttributes:{{PeerURLs:[https://{one}:7834]}}}} "
        f"&{{ID:2 RaftAttributes:{{PeerURLs:[https://{two}:7834]}}}} "
        "&{ID:3 RaftAttributes:{PeerURLs:[https://evil.example:7834]}}]}"
    )
    parser = hear(UNEQUAL.replace(b"{...}", listing.encode()))
    assert [peer.name for peer in parser.actual_members] == [one, two]
    assert [peer.url for peer in parser.actual_members] == [
        f"https://{one}:7834",
        f"https://{two}:7834",
    ]
    assert hear(REMOVED, UNREACHED).actual_members == ()
