# SPDX-License-Identifier: Apache-2.0
"""Consensus members of simulated nodes: what `metropolis.consensus.member` is, over the model.

A member lives on its machine's disk like the real one: the disk remembers which member it is, a
bootstrap that nobody was told of starts over, and a machine that lost its disk is nobody's member.
Members reach each other over the same network as everything else.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, final

from typing_extensions import override

from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError, chain
from metropolis.consensus.member.files import MemberFiles
from metropolis.consensus.member.promoter import promote_learners
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.consensus.memory.roster import MemberState
from metropolis.consensus.store import Compare, Operation, TransactionResult
from metropolis.host import Host
from metropolis.node.intent import ConsensusIntent
from metropolis.node.roles.edges import MemberFactory
from metropolis.node.storage import ETCD
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.sim.loop import note
from metropolis.supervision import Context, Runnable, Value

POLL_S: Final = 0.2
HANG_S: Final = 5.0  # how long a member waits for a quorum before it answers with an error
CATCH_UP_S: Final = (0.1, 3.0)
CALL_DELAY_S: Final = (0.0001, 0.001)
REPLICATION_DELAY_S: Final = (0.0002, 0.005)
_MEMBER_FILE: Final = f"{ETCD.path}/member"
_PUBLISHED_FILE: Final = f"{ETCD.path}/published"


@dataclass(slots=True)
class StoreTroubles:
    """What is wrong with the store now; the nemesis writes, `Faults` reads.

    Attributes:
        lost_replies: Probability that the reply to a write is lost although it took effect.
        slow_calls_s: Member id -> additional delay of every call each way.
        slow_replication_s: Member id -> additional delay until a member hears of a commit.
    """

    lost_replies: float
    slow_calls_s: dict[int, float]
    slow_replication_s: dict[int, float]

    def end(self) -> None:
        """Let everything be well."""
        self.lost_replies = 0.0
        self.slow_calls_s.clear()
        self.slow_replication_s.clear()


TransactionObserver = Callable[[Keyspace, Sequence[Compare], Sequence[Operation]], None]


@final
class _ObservedKeyspace(Keyspace):
    """Tells of every transaction that wrote something, at the moment when it counts."""

    def __init__(self, observers: Sequence[TransactionObserver]) -> None:
        super().__init__()
        self._observers = observers

    @override
    def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation],
    ) -> TransactionResult:
        before = self.revision
        result = super().transact(compares, success, failure)
        if self.revision != before:
            held, done = (compares, success) if result.succeeded else ((), failure)
            for observer in self._observers:
                observer(self, held, done)
        return result


@final
class SimConsensus:
    """The store of one simulated cluster.

    Attributes:
        cluster: The model; another one after a bootstrap started over.
        founded: How many times a consensus was founded.
        was_published: Whether anybody was told of the present one.
        observers: Told of every transaction that wrote: the keys after it, what it compared
            (nothing if its failure branch ran) and its operations.
    """

    def __init__(self, network: MemoryNetwork, rng: Random) -> None:
        self.troubles = StoreTroubles(0.0, {}, {})
        self.founded = 0
        self.was_published = False
        self.observers: list[TransactionObserver] = []
        self._network = network
        self._rng = rng
        self._address_of: dict[int, str] = {}
        self.cluster = self._new_cluster()
        network.on_change.append(self._reach_changed)

    def member_factory(self, host: Host) -> MemberFactory:
        """Return what makes the consensus member of a machine."""

        def make(intent: ConsensusIntent, status: Value[ConsensusStatus | None]) -> Runnable:
            return _SimMember(self, host, intent, status).run

        return make

    def found(self, name: str, url: str, address: str) -> int:
        """Make a new consensus with one member, forgetting one that nobody knows of."""
        assert not self.was_published, "a bootstrap started over after it was acknowledged"
        self.founded += 1
        note(f"consensus {self.founded} founded by {name}")
        self.cluster = self._new_cluster()
        member_id = self.cluster.bootstrap(name=name, peer_url=url)
        self._address_of[member_id] = address
        self._reach_changed()
        return member_id

    def start(self, member_id: int, name: str, address: str) -> None:
        """Let a member's process run."""
        self._address_of[member_id] = address
        note(f"consensus member {member_id:x} of {name} starts")
        self.cluster.start_member(member_id, name=name, catch_up_s=self._rng.uniform(*CATCH_UP_S))

    def stop(self, member_id: int) -> None:
        """End a member's process, if it runs."""
        state = self.cluster.roster.find(member_id)
        if state is not None and state.is_running:
            note(f"consensus member {member_id:x} stops")
            self.cluster.stop_member(member_id)

    def slow_disk(self, member_id: int, delay_s: float) -> None:
        """Let a member's writes take that long, if it is still a member."""
        if self.cluster.roster.find(member_id) is not None:
            self.cluster.slow_disk(member_id, delay_s=delay_s)

    def power_off(self, address: str) -> None:
        """End the process of the member on a machine that lost its power."""
        for member_id in self.members_on(address):
            self.stop(member_id)

    def members_on(self, address: str) -> list[int]:
        """Ids of the members that were last seen on a machine."""
        return [
            state.member_id
            for state in self.cluster.roster
            if self._address_of.get(state.member_id) == address
        ]

    def member_with(self, url: str) -> MemberState | None:
        """Return the member with a peer URL; the invitation of a node that joins."""
        return next((state for state in self.cluster.roster if state.peer_url == url), None)

    def _new_cluster(self) -> MemoryCluster:
        troubles, rng = self.troubles, self._rng
        faults = Faults(
            delay_s=lambda member_id: (
                rng.uniform(*CALL_DELAY_S) + troubles.slow_calls_s.get(member_id, 0.0)
            ),
            hang_s=lambda _member_id: HANG_S,
            replication_delay_s=lambda member_id: (
                rng.uniform(*REPLICATION_DELAY_S) + troubles.slow_replication_s.get(member_id, 0.0)
            ),
            loses_reply=lambda _member_id: (
                troubles.lost_replies > 0 and rng.random() < troubles.lost_replies
            ),
        )
        cluster = MemoryCluster(faults=faults)
        cluster.keyspace = _ObservedKeyspace(self.observers)
        return cluster

    def _reaches(self, one: int, other: int) -> bool:
        here, there = self._address_of.get(one), self._address_of.get(other)
        if here is None or there is None:
            return False
        return self._network.is_open(here, there) and self._network.is_open(there, here)

    def _reach_changed(self) -> None:
        self.cluster.set_reach(self._reaches)


@final
class _SimMember:
    """The runnable of one member. Mirrors `metropolis.consensus.member.member.EtcdMember`."""

    def __init__(
        self,
        consensus: SimConsensus,
        host: Host,
        intent: ConsensusIntent,
        status: Value[ConsensusStatus | None],
    ) -> None:
        self._consensus = consensus
        self._host = host
        self._intent = intent
        self._status = status

    async def run(self, ctx: Context) -> None:
        """Be the member until cancelled; HEALTHY once it votes and answers."""
        self._status.set(None)
        member_id = 0
        try:
            member_id = await self._prepare(ctx)
            self._consensus.start(member_id, self._intent.node_id, self._host.addresses[0])
            ctx.run("promoter", partial(promote_learners, status=self._status))
            cluster = self._consensus.cluster
            store = MemoryStore(cluster, member_id)
            await self._wait_voting(ctx, store)
            await self._host.storage.write(_PUBLISHED_FILE, b"")
            self._consensus.was_published = True
            membership = MemoryMembership(cluster, member_id)
            self._status.set(
                ConsensusStatus(store=store, membership=membership, member_id=member_id)
            )
            ctx.healthy()
            while cluster.roster.find(member_id) is not None:  # noqa: ASYNC110  # an exit is polled
                await asyncio.sleep(POLL_S)
            raise _removed()
        finally:
            self._status.set(None)
            if member_id:
                self._consensus.stop(member_id)

    async def _prepare(self, ctx: Context) -> int:
        """Find out which member this is, and write it down before it starts."""
        storage = self._host.storage
        url = peer_url(self._intent.node_id)
        on_disk = await self._read_member_id()
        if await storage.exists(_PUBLISHED_FILE):
            if on_disk is None:
                raise DataLossError(
                    "the consensus data of this node is gone",
                    remedy="Remove the ConsensusMember role from this node and add it again.",
                )
            if self._consensus.cluster.roster.find(on_disk) is not None:
                await self._be_alone_if_ordered(on_disk)
                return on_disk
            invited = self._consensus.member_with(url)
            if invited is None:
                raise _removed()
            ctx.log.warning("The data on disk is that of a member that was removed")
            await storage.remove_tree(ETCD.path)
        elif self._intent.founds:
            address = self._host.addresses[0]
            member_id = self._consensus.found(self._intent.node_id, url, address)
            await storage.write(_MEMBER_FILE, b"%x" % member_id)
            return member_id
        invited = self._consensus.member_with(url)
        if invited is None:
            raise FailedPreconditionError(
                "the consensus does not know this member", remedy="Add the role again."
            )
        await storage.write(_MEMBER_FILE, b"%x" % invited.member_id)
        return invited.member_id

    async def _be_alone_if_ordered(self, member_id: int) -> None:
        files = MemberFiles(self._host.storage, root=ETCD.path)
        if await files.is_to_be_alone():
            note(f"consensus member {member_id:x} becomes the only one")
            self._consensus.cluster.force_new(member_id)
            await files.is_alone_now()

    async def _read_member_id(self) -> int | None:
        try:
            return int(await self._host.storage.read(_MEMBER_FILE), 16)
        except FileNotFoundError:
            return None

    async def _wait_voting(self, ctx: Context, store: MemoryStore) -> None:
        said = ""
        while waiting_for := await _readiness(store):
            if waiting_for != said:
                ctx.log.info("Waiting for %s", waiting_for)
                said = waiting_for
            await asyncio.sleep(POLL_S)


async def _readiness(store: MemoryStore) -> str:
    """Say what is missing until the member votes and answers; empty when nothing."""
    try:
        if (await store.status()).is_learner:
            return "the promotion of this learner, once it has caught up"
        await store.get(b"any")
    except MetropolisError as error:
        return f"a majority of the members: {chain(error)}"
    return ""


def _removed() -> MetropolisError:
    return FailedPreconditionError(
        "this member was removed from the consensus",
        remedy="Add the ConsensusMember role to this node again.",
    )
