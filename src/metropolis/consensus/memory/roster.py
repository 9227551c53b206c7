# SPDX-License-Identifier: Apache-2.0
"""Members and the rules that protect their quorum. Pure: `now_s` comes in, nothing waits.

Source: etcd 3.5 with strict reconfiguration checks (its default),
server/etcdserver/server.go (mayAddMember, mayPromote, mayRemoveMember) and
server/etcdserver/api/membership/cluster.go (IsReadyTo…, ValidateConfigurationChange).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    UnavailableError,
)
from metropolis.consensus.store import Member

HEALTH_INTERVAL_S = 5.0  # a member counts as connected only after that long
LEARNERS_MAX = 1


@dataclass(slots=True, kw_only=True)
class MemberState:
    """A member as the others see it.

    Attributes:
        name: Empty until it started for the first time.
        has_caught_up: Its log is close enough to the leader's for a promotion.
        is_running: Its process runs.
        running_since_s: Loop time of the last start.
        disk_delay_s: How long a write takes to become durable there.
        applied_revision: What its own watches and caches can have seen.
        scrubbed_revision: Nothing older is left in its database file.
    """

    member_id: int
    peer_url: str
    name: str = ""
    is_learner: bool = False
    has_caught_up: bool = True
    is_running: bool = False
    running_since_s: float = 0.0
    disk_delay_s: float = 0.0
    applied_revision: int = 1
    scrubbed_revision: int = 0

    def public(self) -> Member:
        """What the member list shows."""
        return Member(
            member_id=self.member_id,
            name=self.name or urlsplit(self.peer_url).hostname or "",
            peer_urls=(self.peer_url,),
            is_learner=self.is_learner,
            has_started=bool(self.name),
        )


class Roster:
    """The member list and who reaches whom.

    etcd lets the member that was asked judge health from its own connections: `local`.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, MemberState] = {}
        self._added = 0
        self.reaches: Callable[[int, int], bool] = lambda _one, _other: True

    def __iter__(self) -> Iterator[MemberState]:
        return iter(tuple(self._by_id.values()))

    def find(self, member_id: int) -> MemberState | None:
        """Return a member, or None after its removal."""
        return self._by_id.get(member_id)

    def require(self, member_id: int) -> MemberState:
        """Return a member or raise `NotFoundError`."""
        state = self._by_id.get(member_id)
        if state is None:
            raise NotFoundError("there is no such consensus member", remedy="List the members.")
        return state

    def voters(self) -> list[MemberState]:
        """The members that count for the quorum."""
        return [state for state in self._by_id.values() if not state.is_learner]

    def connected(self, one: MemberState, other: MemberState) -> bool:
        """Whether two members run and reach each other."""
        if not (one.is_running and other.is_running):
            return False
        same = one.member_id == other.member_id
        return same or self.reaches(one.member_id, other.member_id)

    def has_quorum(self, member: MemberState) -> bool:
        """Whether a member reaches a majority of the voters, itself included if it votes."""
        voters = self.voters()
        reached = sum(self.connected(member, voter) for voter in voters)
        return reached > len(voters) // 2

    def add(self, peer_url: str, *, is_learner: bool) -> MemberState:
        """Add a member without asking whether that is wise."""
        self._added += 1
        digest = sha256(f"{peer_url} {self._added}".encode()).digest()
        state = MemberState(
            member_id=int.from_bytes(digest[:8], "big"),
            peer_url=peer_url,
            is_learner=is_learner,
            has_caught_up=not is_learner,
        )
        self._by_id[state.member_id] = state
        return state

    def remove(self, member_id: int) -> None:
        """Forget a member without asking whether that is wise."""
        del self._by_id[member_id]

    def check_add(self, peer_url: str, *, local: MemberState, now_s: float) -> None:
        """Raise what forbids adding a learner now."""
        if not _is_peer_url(peer_url):
            raise InvalidArgumentError(
                "the peer URL is malformed", remedy="Write it as https://<host>:<port>."
            )
        if self._healthy_voters(local, now_s) < len(self.voters()):
            raise _unhealthy()
        self._check_url(peer_url)
        if sum(state.is_learner for state in self._by_id.values()) >= LEARNERS_MAX:
            raise FailedPreconditionError(
                "another learner is waiting for its promotion",
                remedy="Wait until it is promoted, or remove it, then retry.",
            )

    def check_promote(self, member_id: int) -> None:
        """Raise what forbids giving a learner its vote now."""
        state = self.require(member_id)
        if not state.is_learner:
            raise FailedPreconditionError(
                "the member is not a learner", remedy="Promote only learners."
            )
        if not (state.is_running and state.has_caught_up):
            raise FailedPreconditionError(
                "the learner has not caught up with the leader",
                remedy="Wait until it has, then retry.",
            )
        voters = self.voters()
        started = 1 + sum(bool(voter.name) for voter in voters)
        if started < (len(voters) + 1) // 2 + 1:
            raise _not_enough_started()

    def check_remove(self, member_id: int, *, local: MemberState, now_s: float) -> None:
        """Raise what forbids removing a member now."""
        state = self.require(member_id)
        if state.is_learner:
            return
        voters = self.voters()
        others = [voter for voter in voters if voter.member_id != member_id]
        started = sum(bool(voter.name) for voter in others)
        if not others or started < len(others) // 2 + 1:
            raise _not_enough_started()
        if not self.connected(local, state):
            return  # who is down is no part of the active quorum
        if self._healthy_voters(local, now_s) - 1 < 1 + (len(voters) - 1) // 2:
            raise _unhealthy()

    def check_update(self, member_id: int, peer_url: str) -> None:
        """Raise what forbids giving a member another address."""
        self.require(member_id)
        self._check_url(peer_url, except_id=member_id)

    def _check_url(self, peer_url: str, *, except_id: int = 0) -> None:
        for state in self._by_id.values():
            if state.peer_url == peer_url and state.member_id != except_id:
                raise AlreadyExistsError(
                    "a consensus member with that peer URL exists",
                    remedy="Use that member, or remove it first.",
                )

    def _healthy_voters(self, local: MemberState, now_s: float) -> int:
        return sum(
            voter.member_id == local.member_id
            or (self.connected(local, voter) and now_s - voter.running_since_s >= HEALTH_INTERVAL_S)
            for voter in self.voters()
        )


def _is_peer_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        tcp_port = parts.port
    except ValueError:
        return False
    if parts.scheme in {"unix", "unixs"}:
        return bool(parts.netloc)
    has_address = bool(parts.hostname) and tcp_port is not None
    return parts.scheme in {"http", "https"} and has_address and not parts.path


def _unhealthy() -> MetropolisError:
    return UnavailableError(
        "not every consensus member has been connected for 5 s",
        remedy="Wait until every consensus member is up, then retry.",
    )


def _not_enough_started() -> MetropolisError:
    return FailedPreconditionError(
        "the change would risk the quorum: not enough consensus members have started",
        remedy="Start the members that are down, or remove them, then retry.",
    )
