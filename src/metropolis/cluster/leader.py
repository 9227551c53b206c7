# SPDX-License-Identifier: Apache-2.0
"""What exists only while this node leads. All of it can be lost at any moment, and is.

    reads     `confirmed()` waits at the gate, then the cache answers
    writes    read from the store, decide, write what depends on it; again if somebody was faster
    health    heartbeats are heard here and nowhere else; the next leader finds a note of it

Mutual exclusion comes from the fence and from revisions. The two locks serialize what spans more
than one key: `membership_lock` (members and roles), `networking_lock` (keys unique among nodes).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.base.errors import DataLossError, FailedPreconditionError, NotFoundError
from metropolis.base.ids import NodeId
from metropolis.cluster.access import AccessCache
from metropolis.cluster.auditor import Auditor
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.shelf import Shelf
from metropolis.cluster.cache import NodeCache
from metropolis.cluster.doubles import Doubles
from metropolis.cluster.gate import ReadGate
from metropolis.cluster.heartbeats import HealthNote, Heartbeats
from metropolis.cluster.members import ConsensusMembers
from metropolis.cluster.retiring import Retiring
from metropolis.cluster.state import keys, pki, records
from metropolis.cluster.state.audit import AuditedStore
from metropolis.cluster.state.fenced import (
    Change,
    is_unchanged,
    retry_conflicts,
)
from metropolis.cluster.state.records import NodeRecord
from metropolis.cluster.tenure import Tenure
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.consensus.store import Compare, Get, KeyValue, Put
from metropolis.host import Clock, Entropy
from metropolis.rpc.throttle import WRONG_TICKETS, Buckets
from metropolis.supervision import Logger

SETTLE_S: Final = 2.0  # how long an answer waits for the cache to hold what it wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a leader is given. `host` is its own address, for before it has reported one."""

    node_id: NodeId
    host: str
    ca_certificate: bytes
    clock: Clock
    entropy: Entropy
    log: Logger
    shelf: Shelf | None = None  # for scheduled backups
    scratch: Scratch = field(default_factory=memory_scratch)  # for their rehearsals
    notes: Notes | None = None  # for the audit log
    is_disk_full: Callable[[], bool] = lambda: False


class Leader:
    """One tenure's leader.

    Attributes:
        store: Fenced: nothing is read or written after leadership is lost. What a call writes
            enters the audit log.
        access: What users may do, for the server; who decides about users reads the store.
        retiring: Nodes that are being decommissioned.
        wrong_tickets: Who showed some lately; guessing one is slowed for everybody at an address.
        hand_over: Lets another node lead.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        consensus: ConsensusStatus,
        nodes: NodeCache,
        *,
        fence: Compare,
        access: AccessCache | None = None,
    ) -> None:
        self.own = surroundings
        self.access = access or AccessCache(consensus.store)
        self.log = surroundings.log
        self.nodes = nodes
        self.tenure = Tenure()
        self.store = AuditedStore(
            consensus.store,
            fence=fence,
            clock=surroundings.clock,
            leader_id=surroundings.node_id,
            is_disk_full=surroundings.is_disk_full,
        )
        self.auditor = Auditor(self.store, surroundings.log, surroundings.notes)
        self.pki = pki.StoredPki(self.store, pki.CLUSTER, surroundings.entropy)
        self.members = ConsensusMembers(
            store=self.store,
            membership=consensus.membership,
            pki=pki.StoredPki(self.store, pki.CONSENSUS, surroundings.entropy),
        )
        self.gate = ReadGate(self._confirm, nodes.mirror.wait_revision)
        self.heartbeats = Heartbeats(tenure_start_s=_now_s())
        self.health_note = HealthNote(
            self.heartbeats, nodes, self.store, surroundings.clock, surroundings.log
        )
        self.doubles = Doubles(surroundings.log, now_s=_now_s())
        self.retiring = Retiring()
        self.wrong_tickets = Buckets(WRONG_TICKETS)
        self.hand_over: Callable[[], Awaitable[None]] = _stay
        self.backups = BackupDesk(
            DeskEdges(
                store=self.store,
                clock=surroundings.clock,
                entropy=surroundings.entropy,
                log=surroundings.log,
                ca_fingerprint=hashlib.sha256(surroundings.ca_certificate).digest(),
                shelf=surroundings.shelf,
                scratch=surroundings.scratch,
            )
        )
        self._written_revision = 0
        self.membership_lock = asyncio.Lock()
        self.networking_lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where clients find this leader."""
        return self.nodes.external_address(self.own.node_id) or self.own.host

    @property
    def is_cache_behind(self) -> bool:
        """Whether the cache lacks something that this leader itself has written."""
        return self.nodes.mirror.revision < self._written_revision

    async def confirmed(self) -> NodeCache:
        """Return the cache once it holds everything acknowledged before this call.

        Raises:
            NotLeaderError: leadership is lost.
            UnavailableError: the store does not answer.
        """
        await self.gate.wait()
        return self.nodes

    async def find(self, node_id: NodeId) -> NodeRecord | None:
        """Read a record from the store, to change it.

        Raises:
            DataLossError: it is damaged.
        """
        found = (await self.store.read(Get(keys.node(node_id)))).one(0)
        return None if found is None else records.decode(found)

    async def load(self, node_id: NodeId) -> NodeRecord:
        """Read a record from the store, to change it.

        Raises:
            NotFoundError: there is none.
            DataLossError: it is damaged.
        """
        record = await self.find(node_id)
        if record is None:
            raise NotFoundError(
                f"no such node: {node_id}", remedy="List the nodes with `metroctl node list`."
            )
        return record

    async def configuration(self) -> tuple[ClusterConfiguration, int]:
        """Read the cluster's configuration and its revision.

        Raises:
            FailedPreconditionError: there is none.
            DataLossError: it is damaged.
        """
        found = (await self.store.read(Get(keys.CONFIGURATION))).one(0)
        return read_configuration(found), 0 if found is None else found.mod_revision

    async def save(self, record: NodeRecord, also: Change | None = None) -> None:
        """Write a record that was read before, together with what belongs to it.

        Raises:
            ConflictError: the record, or what the rest depends on, has changed.
        """
        key = keys.node(record.node_id)
        change = Change(
            compares=(is_unchanged(key, record.mod_revision),),
            operations=(Put(key, records.encode(record)),),
        )
        await self.commit(change if also is None else change + also)

    async def commit(self, change: Change) -> None:
        """Write, and wait a moment for the cache to hold it: who was answered then finds it."""
        revision = await self.store.write(change)
        self._written_revision = max(self._written_revision, revision)
        try:
            async with asyncio.timeout(SETTLE_S):
                await self.nodes.mirror.wait_revision(revision)
        except TimeoutError:
            self.log.warning("The cache is more than %.0f s behind the store", SETTLE_S)

    async def update(
        self,
        node_id: NodeId,
        change: Callable[[NodeRecord], Awaitable[NodeRecord]],
        *,
        sentence: str = "",
    ) -> None:
        """Read a record, change it and write it, again while somebody else is faster.

        Args:
            sentence: What the audit log says of it.
        """

        async def attempt() -> None:
            record = await self.load(node_id)
            changed = await change(record)
            if changed is not record:
                await self.save(changed, Change(sentence=sentence))

        await retry_conflicts(attempt)

    async def _confirm(self) -> int:
        return (await self.store.read()).revision


async def _stay() -> None:
    """Hand the leadership over to nobody: whoever runs an election says how."""


def read_configuration(found: KeyValue | None) -> ClusterConfiguration:
    """Read the cluster's configuration from its key.

    Raises:
        FailedPreconditionError: there is none.
        DataLossError: it is damaged.
    """
    if found is None:
        raise FailedPreconditionError(
            "the cluster has no configuration", remedy="Wait until its bootstrap is done."
        )
    try:
        return ClusterConfiguration.FromString(found.value)
    except DecodeError as cause:
        raise DataLossError(
            "the cluster's configuration is damaged",
            remedy="Restore the store from a backup.",
        ) from cause


def _now_s() -> float:
    return asyncio.get_running_loop().time()
