# SPDX-License-Identifier: Apache-2.0
"""etcd's last words, understood: why it ended, and what to do about it.

etcd exits with code 1 whatever happened; only its log tells. Texts: etcd 3.5, server/etcdserver.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnavailableError
from metropolis.base.ids import is_node_id, parse_node_id
from metropolis.consensus.member.start import ExistingPeer, peer_url
from metropolis.supervision.entries import LeveledLine
from metropolis.supervision.etcd_log import EtcdLogParser

_PEER_URL: Final = re.compile(rb"PeerURLs:\[https://([a-z0-9-]{1,64}):7834\]")

_INVITE_AGAIN: Final = (
    "Remove the ConsensusMember role from this node, wait until `metroctl node list` no longer "
    "shows it, and add it again."
)


@dataclass(frozen=True, slots=True)
class _Complaint:
    """Recognised by a piece of a log line."""

    text: bytes
    kind: type[MetropolisError]
    message: str
    remedy: str


_OTHER_MEMBERS: Final = "the consensus has other members now than when this node was invited"

REMOVED: Final = _Complaint(
    b"the member has been permanently removed from the cluster",
    FailedPreconditionError,
    "this node's member was removed from the consensus",
    _INVITE_AGAIN,
)
_COMPLAINTS: Final = (
    REMOVED,
    _Complaint(
        b"has already been bootstrapped",
        FailedPreconditionError,
        "the consensus data of this node is gone, but the other members remember the member",
        _INVITE_AGAIN,
    ),
    _Complaint(
        b"member count is unequal",
        FailedPreconditionError,
        _OTHER_MEMBERS,
        _INVITE_AGAIN,
    ),
    _Complaint(
        b"unmatched member while checking PeerURLs",
        FailedPreconditionError,
        _OTHER_MEMBERS,
        _INVITE_AGAIN,
    ),
    _Complaint(
        b"cannot fetch cluster info from peer urls",
        UnavailableError,
        "no other consensus member could be reached",
        "Check that the other consensus members run and can be reached on TCP port 7834.",
    ),
    _Complaint(
        b"address already in use",
        FailedPreconditionError,
        "another program uses TCP port 7834 or 7842 of this node",
        "Stop that program.",
    ),
    _Complaint(
        b"no space left on device",
        FailedPreconditionError,
        "the disk of this node is full",
        "Read what to do about it with `metroctl explain`.",
    ),
)


class ListeningParser:
    """Parses etcd's lines as usual, and remembers the last complaint it knows."""

    line_bytes_max: ClassVar[int] = EtcdLogParser.line_bytes_max

    def __init__(self) -> None:
        self._parser = EtcdLogParser()
        self._heard: _Complaint | None = None
        self._members: tuple[ExistingPeer, ...] = ()

    @property
    def was_removed(self) -> bool:
        """Whether the other members said that this one is no member any more."""
        return self._heard is REMOVED

    @property
    def actual_members(self) -> Sequence[ExistingPeer]:
        """The members that etcd found when it complained that it expected others; else none.

        They come from peers that proved to belong to this consensus, through mutual TLS.
        """
        return self._members

    def parse(self, line: bytes, *, now: datetime, is_truncated: bool) -> LeveledLine:
        """See `EtcdLogParser.parse`."""
        if b'"level":"info"' not in line[:20]:
            for complaint in _COMPLAINTS:
                if complaint.text in line:
                    self._heard = complaint
                    if complaint.message == _OTHER_MEMBERS:
                        self._members = _members_in(line)
                    break
        return self._parser.parse(line, now=now, is_truncated=is_truncated)

    def error(self) -> MetropolisError | None:
        """The complaint as an error, if there was one."""
        if self._heard is None:
            return None
        return self._heard.kind(self._heard.message, remedy=self._heard.remedy)


def _members_in(line: bytes) -> tuple[ExistingPeer, ...]:
    """Find peer URLs in Go's rendering of a member list: `PeerURLs:[https://<node id>:7834]`."""
    found = (match[1].decode("ascii") for match in _PEER_URL.finditer(line))
    return tuple(
        ExistingPeer(name=host, url=peer_url(parse_node_id(host)))
        for host in dict.fromkeys(found)
        if is_node_id(host)
    )
