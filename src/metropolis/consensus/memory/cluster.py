# SPDX-License-Identifier: Apache-2.0
"""The shared truth behind the in-memory stores: who leads, what time does to leases, who hears.

Topology changes only through the methods here, each of which reconsiders the leader. All waiting
is on the running loop, so the same code runs in virtual and in real time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from metropolis.base.errors import UnavailableError
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.consensus.memory.roster import MemberState, Roster
from metropolis.consensus.memory.watch import MemoryWatch

T = TypeVar("T")

LEASE_TTL_MIN_S = 2  # etcd: one and a half elections of 1 s, rounded up
NO_LEADER_ELECTIONS = 3  # etcd ends `hasleader` streams after that many election timeouts
_LEASE_ID_BASE = 0x6D65_7472_0000_0000


@dataclass(slots=True, kw_only=True)
class _Lease:
    ttl_s: int
    deadline_s: float
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, kw_only=True)
class _Raft:
    """What an operator sees of the agreement."""

    leader_id: int = 0
    term: int = 1
    index: int = 1
    election: asyncio.TimerHandle | None = None
    deaf: dict[int, asyncio.TimerHandle] = field(
        default_factory=dict[int, asyncio.TimerHandle]
    )  # members without leader


class MemoryCluster:
    """A consensus that lives in this process.

    Args:
        faults: Delays and losses, decided by the simulator.
        election_s: How long the members are without a leader after they lost one.
    """

    def __init__(self, *, faults: Faults | None = None, election_s: float = 1.0) -> None:
        self.faults = faults or Faults()
        self.keyspace = Keyspace()
        self.roster = Roster()
        self._election_s = election_s
        self._raft = _Raft()
        self._leases: dict[int, _Lease] = {}
        self._granted = 0
        self._watches: dict[MemoryWatch, None] = {}
        self._changed = asyncio.Event()  # replaced at every change of topology or progress

    # What the simulator does to the members.

    def bootstrap(self, *, name: str, peer_url: str) -> int:
        """Make the first member, started and leading; return its id."""
        assert not list(self.roster), "a cluster is born once"
        state = self.roster.add(peer_url, is_learner=False)
        self.start_member(state.member_id, name=name)
        self._elect()
        return state.member_id

    def start_member(self, member_id: int, *, name: str, catch_up_s: float = 0.0) -> None:
        """Run a member's process; a learner has caught up `catch_up_s` later."""
        state = self.roster.require(member_id)
        state.name, state.is_running, state.running_since_s = name, True, self._now_s()
        if not state.has_caught_up:
            asyncio.get_running_loop().call_later(catch_up_s, self._catch_up, state)
        self.reconsider()

    def stop_member(self, member_id: int) -> None:
        """End a member's process: its clients lose it at once."""
        self.roster.require(member_id).is_running = False
        self.disconnect_watches(member_id)
        self.reconsider()

    def force_new(self, member_id: int) -> None:
        """Make a member the only one, with what it has applied; all others are gone for ever."""
        survivor = self.roster.require(member_id)
        for state in self.roster:
            if state is not survivor:
                state.is_running = False
                self.disconnect_watches(state.member_id)
                self.roster.remove(state.member_id)
        survivor.is_learner = False
        self.keyspace.go_back(survivor.applied_revision)
        self.reconsider()

    def set_reach(self, reaches: Callable[[int, int], bool]) -> None:
        """Decide which members reach each other; call again when the answer changed."""
        self.roster.reaches = reaches
        self.reconsider()

    def isolate(self, *member_ids: int) -> None:
        """Cut members off from all others, but not from each other."""
        self.set_reach(lambda one, other: (one in member_ids) == (other in member_ids))

    def heal(self) -> None:
        """Let every member reach every other."""
        self.set_reach(lambda _one, _other: True)

    def lose_leader(self, *, for_s: float) -> None:
        """Leave the members without a leader for a time."""
        if self._raft.election is not None:
            self._raft.election.cancel()
            self._raft.election = None
        self._depose(for_s)
        self.reconsider()

    def disconnect_watches(self, member_id: int | None = None) -> None:
        """Break the watches of one member's clients, or everybody's."""
        for watch in list(self._watches):
            if member_id in {None, watch.member_id}:
                watch.fail(UnavailableError("the watch was lost", remedy="Retry."))

    def slow_disk(self, member_id: int, *, delay_s: float) -> None:
        """Make writes take that long to become durable at one member."""
        self.roster.require(member_id).disk_delay_s = delay_s

    # What the clients do.

    @property
    def leader_id(self) -> int:
        """The raft leader; 0 while there is none."""
        return self._raft.leader_id

    @property
    def raft_term(self) -> int:
        """Counts elections."""
        return self._raft.term

    @property
    def raft_index(self) -> int:
        """Counts everything that was agreed on."""
        return self._raft.index

    def hears_leader(self, state: MemberState) -> bool:
        """Whether a member runs and reaches the leader."""
        leader = self.roster.find(self._raft.leader_id)
        return leader is not None and self.roster.connected(state, leader)

    def local(self, member_id: int) -> MemberState:
        """Return a member that answers its clients, with or without quorum."""
        state = self.roster.find(member_id)
        if state is None or not state.is_running:
            raise UnavailableError("the local consensus member does not answer", remedy="Retry.")
        return state

    def check_serving(self, member_id: int) -> MemberState:
        """Return a member that can make agreed calls, else raise `UnavailableError`."""
        state = self.local(member_id)
        if state.is_learner:
            raise UnavailableError(
                "the local consensus member is still a learner",
                remedy="Wait until it is promoted, then retry.",
            )
        if not self.hears_leader(state):
            raise UnavailableError(
                "the consensus has no leader",
                remedy="Start enough consensus members for a majority, then retry.",
            )
        return state

    async def read(self, member_id: int, answer: Callable[[], T]) -> T:
        """Answer from the truth, once a quorum confirms it and the member has caught up."""
        await asyncio.sleep(self.faults.delay_s(member_id))
        await self._wait_serving(member_id)
        result = answer()
        await self._reply(member_id)
        return result

    async def write(self, member_id: int, apply: Callable[[], T]) -> T:
        """Change the truth. Whoever is cancelled or gets an error does not know whether it did."""
        await asyncio.sleep(self.faults.delay_s(member_id))
        await self._wait_serving(member_id)
        if delay_s := self._commit_delay_s():
            await asyncio.sleep(delay_s)
            self.check_serving(member_id)
        result = apply()
        self.commit()
        if self.faults.loses_reply(member_id):
            raise UnavailableError("the consensus timed out", remedy="Retry.")
        if self.roster.find(member_id) is not None:  # who removed itself is still told
            await self._reply(member_id)
        return result

    def commit(self) -> None:
        """Count an agreement and carry it to the members that hear the leader."""
        self._raft.index += 1
        self._replicate()

    def attach(self, watch: MemoryWatch) -> None:
        """Let a watch hear of changes until it is detached."""
        self._watches[watch] = None

    def detach(self, watch: MemoryWatch) -> None:
        """Forget a watch."""
        self._watches.pop(watch, None)

    def compact(self, revision: int) -> None:
        """Forget history, after every watch took what it may already see."""
        for watch in self._watches:
            watch.pull()
        self.keyspace.compact(revision)

    def grant_lease(self, ttl_s: int) -> int:
        """Create a lease; like etcd it never lives shorter than one and a half elections."""
        self._granted += 1
        lease_id = _LEASE_ID_BASE + self._granted
        self.keyspace.add_lease(lease_id)
        ttl_s = max(ttl_s, LEASE_TTL_MIN_S)
        self._leases[lease_id] = _Lease(ttl_s=ttl_s, deadline_s=self._now_s() + ttl_s)
        self._arm(lease_id)
        return lease_id

    def renew_lease(self, lease_id: int) -> int:
        """Return the new time to live, 0 for a lease that is gone."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return 0
        lease.deadline_s = self._now_s() + lease.ttl_s
        return lease.ttl_s

    @property
    def lease_ids(self) -> list[int]:
        """The leases there are, in the order of their numbers."""
        return sorted(self._leases)

    def end_lease(self, lease_id: int) -> None:
        """Delete a lease with its keys. Gone is fine."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            if lease.timer is not None:
                lease.timer.cancel()
            self.keyspace.end_lease(lease_id)

    def transfer_leader(self, member_id: int) -> None:
        """Make a member the leader."""
        if member_id != self._raft.leader_id:
            self._lead(self.roster.require(member_id))
            self.reconsider()

    def reconsider(self) -> None:
        """Look whether the leader still leads; for after a change of members or links."""
        raft = self._raft
        leader = self.roster.find(raft.leader_id)
        if leader is None or leader.is_learner or not self.roster.has_quorum(leader):
            self._depose(self._election_s)
        for state in self.roster:
            self._watch_for_deafness(state)
        self._replicate()
        self._announce()

    # Inside.

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _depose(self, for_s: float) -> None:
        raft = self._raft
        raft.leader_id = 0
        if raft.election is None:
            raft.election = asyncio.get_running_loop().call_later(for_s, self._elect)

    def _elect(self) -> None:
        if self._raft.election is not None:
            self._raft.election.cancel()
            self._raft.election = None
        candidates = [state for state in self.roster.voters() if self.roster.has_quorum(state)]
        if candidates:
            self._lead(min(candidates, key=_fitness))
            self.reconsider()

    def _lead(self, leader: MemberState) -> None:
        self._raft.leader_id = leader.member_id
        self._raft.term += 1
        self._raft.index += 1
        leader.applied_revision = self.keyspace.revision
        for lease_id, lease in self._leases.items():  # a new leader cannot know their age
            lease.deadline_s = self._now_s() + lease.ttl_s
            self._arm(lease_id)

    def _watch_for_deafness(self, state: MemberState) -> None:
        """End a member's watches when it hears no leader for three elections."""
        deaf = self._raft.deaf
        if self.hears_leader(state):
            if (timer := deaf.pop(state.member_id, None)) is not None:
                timer.cancel()
        elif state.member_id not in deaf:
            after_s = self._election_s * NO_LEADER_ELECTIONS
            deaf[state.member_id] = asyncio.get_running_loop().call_later(
                after_s, self.disconnect_watches, state.member_id
            )

    def _commit_delay_s(self) -> float:
        """Return when a majority of the voters has it on disk."""
        voters = self.roster.voters()
        leader = self.roster.require(self._raft.leader_id)
        delays = sorted(v.disk_delay_s for v in voters if self.roster.connected(leader, v))
        return delays[len(voters) // 2]

    def _replicate(self) -> None:
        revision = self.keyspace.revision
        loop = asyncio.get_running_loop()
        for state in self.roster:
            if state.applied_revision < revision and self.hears_leader(state):
                delay_s = self.faults.replication_delay_s(state.member_id)
                if delay_s:
                    loop.call_later(delay_s, self._apply, state, revision)
                else:
                    self._apply(state, revision)

    def _apply(self, state: MemberState, revision: int) -> None:
        if state.is_running and revision > state.applied_revision:
            state.applied_revision = revision
            for watch in self._watches:
                if watch.member_id == state.member_id:
                    watch.notify()
            self._announce()

    def _catch_up(self, state: MemberState) -> None:
        state.has_caught_up = True

    def _arm(self, lease_id: int) -> None:
        lease = self._leases[lease_id]
        if lease.timer is not None:
            lease.timer.cancel()
        lease.timer = asyncio.get_running_loop().call_at(lease.deadline_s, self._expire, lease_id)

    def _expire(self, lease_id: int) -> None:
        lease = self._leases[lease_id]
        if not self._raft.leader_id:
            return  # nobody ends leases now; the next leader starts them anew
        if self._now_s() < lease.deadline_s:
            self._arm(lease_id)
            return
        self.end_lease(lease_id)
        self.commit()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_serving(self, member_id: int) -> None:
        deadline_s = self._now_s() + self.faults.hang_s(member_id)
        while True:
            try:
                self.check_serving(member_id)
            except UnavailableError:
                try:
                    async with asyncio.timeout_at(deadline_s):
                        await self._changed.wait()
                except TimeoutError:
                    self.check_serving(member_id)
                    return
            else:
                return

    async def _reply(self, member_id: int) -> None:
        """Answer once the member itself has applied what the answer speaks of."""
        revision = self.keyspace.revision
        while self.local(member_id).applied_revision < revision:
            await self._changed.wait()
        await asyncio.sleep(self.faults.delay_s(member_id))
        self.local(member_id)


def _fitness(state: MemberState) -> tuple[int, int]:
    return (-state.applied_revision, state.member_id)
