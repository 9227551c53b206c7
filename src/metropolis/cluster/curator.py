# SPDX-License-Identifier: Apache-2.0
"""The control plane of one node, as a runnable.

    curator ─┬─ listener    bound as long as the node runs; what answers changes, the port does not
             └─ candidate   while this node is a consensus member: cache, election, tenure
                            otherwise: passes on what the node heard about the leader

A tenure begins when the election is won *and* the cache holds everything that was written before
it; it ends the moment the election is lost, together with every call in it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.base.ids import NodeId
from metropolis.cluster.access import NOBODY, AccessCache
from metropolis.cluster.backup.shelf import Shelf
from metropolis.cluster.cache import NodeCache, node_id_in
from metropolis.cluster.doorman import Doorman
from metropolis.cluster.leader import Leader, Surroundings
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.members import hand_raft_over, has_other_voters
from metropolis.cluster.office import LeaderHint, Office, Pointing, Presiding, Vacant, View
from metropolis.cluster.retire import keep_retiring
from metropolis.cluster.scrub import keep_scrubbed
from metropolis.cluster.services.curator_local import CuratorLocal
from metropolis.cluster.services.registry import control_plane
from metropolis.cluster.state import keys
from metropolis.cluster.sync import keep_synchronized
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.election import (
    LEASE_TTL_S,
    Election,
    Following,
    Leadership,
    Leading,
    Unknown,
    fence,
)
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.mirror import Mirror
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.host import Clock, Entropy
from metropolis.pki.credentials import Credentials
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.throttle import Throttle
from metropolis.rpc.transport import Endpoint, Transport
from metropolis.supervision import Context, Runnable, Value

LAST_WORDS_S: Final = 1.0  # for the answer of the call that revokes its own caller
SWEEP_S: Final = 5.0  # between looks for connections of users whose time is over
HAND_OVER_AGAIN_S: Final = 600.0  # of who leads again although its disk is full: others cannot
READY_RETRY_S: Final = 0.2  # between attempts of a new leader to see the whole store
_LOOPBACK: Final = ("127.", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CuratorConfig:
    """What a node's control plane is given.

    Attributes:
        credentials: The node's own.
        ca_certificate: DER of the cluster's CA.
        endpoints: Where to listen; the first that is not loopback is this node's address until it
            has reported one.
        consensus: The local member while it votes, None at all other times.
        relay: What a node that is no member heard about the leader; None while it knows nothing.
        shelf: Where scheduled backups lie while this node leads; None: nowhere.
        scratch: Where those are rehearsed.
        notes: What this node was told when nobody led, for the audit log; None: nothing.
        is_disk_full: Of this node. Another one leads, if it can; else users change only what helps.
    """

    node_id: NodeId
    credentials: Credentials = field(repr=False)
    ca_certificate: bytes
    transport: Transport
    endpoints: Sequence[Endpoint]
    consensus: Value[ConsensusStatus | None]
    relay: Value[LeaderHint | None]
    clock: Clock
    entropy: Entropy
    lease_ttl_s: int = LEASE_TTL_S
    shelf: Shelf | None = None
    scratch: Scratch = field(default_factory=memory_scratch)
    notes: Notes | None = None
    is_disk_full: Value[bool] = field(default_factory=lambda: Value(False))


def curator(config: CuratorConfig) -> Runnable:
    """Return the runnable of a node's control plane."""

    async def run(ctx: Context) -> None:
        office = Office(config.node_id)
        ctx.run("listener", partial(_listen, config=config, office=office))
        ctx.run("candidate", partial(_candidate, config=config, office=office))
        ctx.healthy()
        await ctx.wait_cancelled()

    return run


async def _listen(ctx: Context, *, config: CuratorConfig, office: Office) -> None:
    """Serve the whole control plane on every endpoint."""
    services = control_plane(office, CuratorLocal(office, config.ca_certificate))
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: config.ca_certificate,
        clock=config.clock,
        revoked=office.revoked,
        grants=office.grants,
        throttle=Throttle(),
    )
    async with AsyncExitStack() as stack:
        for endpoint in config.endpoints:
            server = await stack.enter_async_context(
                config.transport.serve(
                    endpoint,
                    credentials=config.credentials,
                    services=services,
                    authenticator=Doorman(authenticator, office),
                )
            )
            office.servers.append(server)
            stack.callback(office.servers.remove, server)
        ctx.log.info("Serving the control plane at %s", ", ".join(map(str, config.endpoints)))
        ctx.healthy()
        while True:  # certificates expire under open connections
            await asyncio.sleep(SWEEP_S)
            office.disconnect(authenticator.is_unwelcome)


async def _candidate(ctx: Context, *, config: CuratorConfig, office: Office) -> None:
    """Contend for the leadership while there is a local member, else pass hints on."""
    ctx.healthy()
    watcher = config.consensus.watch()
    status = await watcher.receive()
    while True:
        async with asyncio.TaskGroup() as group:
            if status is None:
                task = group.create_task(_relay(config, office))
            else:
                task = group.create_task(_Candidate(ctx, config, office, status).run())
            present = status
            status = await watcher.wait_for(lambda new, old=present: new is not old)  # type: ignore[misc]
            task.cancel()


async def _relay(config: CuratorConfig, office: Office) -> None:
    watcher = config.relay.watch()
    try:
        while True:
            hint = await watcher.receive()
            office.view.set(Vacant() if hint is None else Pointing(hint))
    finally:
        office.view.set(Vacant())


class _Candidate:
    """One stretch of time with one local member."""

    def __init__(
        self, ctx: Context, config: CuratorConfig, office: Office, consensus: ConsensusStatus
    ) -> None:
        self._log = ctx.log
        self._config = config
        self._office = office
        self._consensus = consensus
        self._nodes = NodeCache(Mirror(consensus.store, keys.NODES), ctx.log)
        self._access = AccessCache(consensus.store)
        self._told_address = ""
        self._handed_over_s: float | None = None  # because of a full disk
        self._election = Election(
            consensus.store,
            prefix=keys.LEADER,
            node_id=config.node_id,
            ttl_s=config.lease_ttl_s,
            report=partial(ctx.log.info, "Election: %s"),
        )

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_endless("cache", self._nodes.mirror.run))
                group.create_task(_endless("access cache", self._access.mirror.run))
                group.create_task(_endless("election", self._election.run))
                group.create_task(_endless("user watch", self._follow_users))
                group.create_task(_endless("node watch", self._follow_nodes))
                group.create_task(
                    _endless(
                        "scrub",
                        partial(
                            keep_scrubbed, self._consensus.store, self._config.node_id, self._log
                        ),
                    )
                )
                await self._follow_election()
        finally:
            self._office.view.set(Vacant())

    async def _follow_election(self) -> None:
        watcher = self._election.state.watch()
        state = await watcher.receive()
        while True:
            if not isinstance(state, Leading):
                self._office.view.set(self._view_of(state))
                state = await watcher.receive()
                continue
            leader = self._new_leader(state)
            async with asyncio.TaskGroup() as group:
                term = group.create_task(self._lead(leader))
                present = state
                try:
                    state = await watcher.wait_for(partial(_differs, present))
                finally:
                    leader.tenure.end()
                    self._office.view.set(Vacant())
                    term.cancel()

    def _new_leader(self, state: Leading) -> Leader:
        config = self._config
        hosts = [endpoint.host for endpoint in config.endpoints]
        outside = [host for host in hosts if not host.startswith(_LOOPBACK)]
        return Leader(
            Surroundings(
                node_id=config.node_id,
                host=(outside or hosts)[0],
                ca_certificate=config.ca_certificate,
                clock=config.clock,
                entropy=config.entropy,
                log=self._log,
                shelf=config.shelf,
                scratch=config.scratch,
                notes=config.notes,
                is_disk_full=lambda: config.is_disk_full.current,
            ),
            self._consensus,
            self._nodes,
            fence=fence(state),
            access=self._access,
        )

    async def _hand_over(self) -> None:
        """Let another node lead; also the store's own leadership goes, before it has to."""
        try:
            await hand_raft_over(self._consensus)
        except MetropolisError as error:
            self._log.warning("The store elects its next leader by itself: %s", chain(error))
        await self._election.resign()

    async def _hand_over_when_full(self) -> None:
        """Let another member lead while the disk of this one is full: its own may have room."""
        while True:
            await self._config.is_disk_full.wait_for(lambda is_full: is_full)
            now_s = asyncio.get_running_loop().time()
            handed_over_s = self._handed_over_s
            if handed_over_s is not None and now_s - handed_over_s < HAND_OVER_AGAIN_S:
                await asyncio.sleep(handed_over_s + HAND_OVER_AGAIN_S - now_s)
                continue
            self._handed_over_s = now_s
            if await has_other_voters(self._consensus):
                self._log.warning("The disk of this node is full: another one is to lead")
                await self._hand_over()

    async def _lead(self, leader: Leader) -> None:
        async with asyncio.TaskGroup() as group:
            leader.hand_over = self._hand_over
            group.create_task(_endless("gate", leader.gate.run))
            await self._wait_ready(leader)
            await leader.health_note.load()
            self._office.view.set(Presiding(leader))
            self._log.info("Leading: %d nodes known", len(self._nodes))
            group.create_task(_endless("full disk", self._hand_over_when_full))
            group.create_task(_endless("audit", leader.auditor.run))
            group.create_task(_endless("health note", leader.health_note.run))
            with leader.auditor.by_itself("Leader.Synchronize"):
                group.create_task(_endless("sync", partial(keep_synchronized, leader)))
            group.create_task(_endless("backups", leader.backups.run))
            with leader.auditor.by_itself("Leader.Decommission"):
                group.create_task(_endless("decommissions", partial(keep_retiring, leader)))

    async def _wait_ready(self, leader: Leader) -> None:
        """Wait until the cache holds what earlier leaders wrote: who is revoked, above all."""
        while True:
            try:
                await leader.confirmed()
                await self._access.mirror.wait_revision(self._nodes.mirror.revision)
            except MetropolisError as error:
                self._log.warning("Not leading yet: %s", chain(error))
                await asyncio.sleep(READY_RETRY_S)
            else:
                return

    async def _follow_nodes(self) -> None:
        """Close the connections of nodes that are none any more; keep the leader's address."""
        with self._nodes.mirror.watch() as watcher:
            while True:
                unwanted: dict[str, None] = {}
                for change in await watcher.receive():
                    node_id = node_id_in(change.key)
                    record = None if change.item is None else self._nodes.decode(change.item)
                    if record is None or record.state is not NodeState.UP:
                        unwanted[node_id] = None
                if unwanted:
                    self._office.disconnect(partial(_is_one_of, unwanted))
                self._refresh_hint()

    async def _follow_users(self) -> None:
        """Close the connections of users who were revoked, or may do less than before.

        They are refused at once, whatever is open; but who did that to itself shall hear so.
        """
        before = NOBODY
        with self._access.watch() as watcher:
            while True:
                await watcher.receive()
                await asyncio.sleep(LAST_WORDS_S)
                now = self._access.current
                self._office.disconnect(now.unwanted_since(before))
                before = now

    def _refresh_hint(self) -> None:
        view = self._office.view.current
        match view:
            case Pointing(hint):
                host = self._nodes.external_address(hint.node_id)
                if host != hint.host:
                    self._office.view.set(Pointing(LeaderHint(node_id=hint.node_id, host=host)))
            case Presiding(leader):
                if leader.address != self._told_address:  # who asked before must hear of it
                    self._told_address = leader.address
                    self._office.view.set(view)
            case Vacant():
                pass

    def _view_of(self, state: Following | Unknown) -> View:
        if isinstance(state, Unknown):
            return Vacant()
        host = self._nodes.external_address(state.leader)
        return Pointing(LeaderHint(node_id=state.leader, host=host))


async def _endless(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do what must not end. A task group would not notice a silent end."""
    try:
        await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is None or task.cancelling(), f"the {name} was cancelled by nobody"
        raise
    raise AssertionError(f"the {name} has ended")


def _differs(old: Leadership, new: Leadership) -> bool:
    return new != old


def _is_one_of(unwanted: dict[str, None], peer: Peer) -> bool:
    return peer.kind is PeerKind.NODE and peer.identity in unwanted
