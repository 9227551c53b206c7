# SPDX-License-Identifier: Apache-2.0
"""A few nodes' control planes on a simulated network, over one modelled consensus.

Everything but the node around the curator is real: certificates, policies, elections, services.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import curator_pb2 as curator_api
from metropolis.api import management_pb2 as api
from metropolis.api.aaa_pb2 import EscrowRequest
from metropolis.api.common_pb2 import (
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    NodeStatus,
)
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management
from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnavailableError
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.curator import CuratorConfig, curator
from metropolis.cluster.office import LeaderHint
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.state.bootstrap import BootstrapRequest, bootstrap_cluster
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import insecure_verifier, server_verifier
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.channel import Channel
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.transport import Endpoint
from metropolis.sim.loop import simulate
from metropolis.supervision import LogTree, Supervisor, Value

OPERATOR_ADDRESS = "10.0.0.99"


@dataclass(slots=True, kw_only=True, eq=False)
class Site:
    """One node: its keys, its address, and its control plane while it runs."""

    number: int
    key: Ed25519PrivateKey
    join_key: Ed25519PrivateKey
    transport: MemoryTransport
    log_tree: LogTree
    consensus: Value[ConsensusStatus | None]
    relay: Value[LeaderHint | None]
    is_disk_full: Value[bool] = field(default_factory=lambda: Value(False))
    certificate: bytes = b""
    member_id: int = 0
    supervisor: Supervisor | None = None
    running: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> NodeId:
        return node_id_from_public_key(raw_public_key(self.key))

    @property
    def address(self) -> str:
        return f"10.0.0.{self.number}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address, CURATOR_TCP_PORT)

    @property
    def credentials(self) -> Credentials:
        return Credentials(certificate=self.certificate, key=self.key)


@dataclass(slots=True, kw_only=True, eq=False)
class Rack:
    """The nodes, what connects them, and the operator."""

    network: MemoryNetwork
    cluster: MemoryCluster
    group: asyncio.TaskGroup
    entropy: SimEntropy
    owner_key: Ed25519PrivateKey
    clock: SimClock = field(default_factory=SimClock)
    sites: list[Site] = field(default_factory=list)
    ca: bytes = b""
    owner: Credentials | None = None
    channels: list[Channel] = field(default_factory=list)

    def new_site(self) -> Site:
        number = len(self.sites) + 1
        site = Site(
            number=number,
            key=generate_key(self.entropy),
            join_key=generate_key(self.entropy),
            transport=MemoryTransport(self.network, f"10.0.0.{number}"),
            log_tree=LogTree(clock=self.clock),
            consensus=Value(None),
            relay=Value(None),
        )
        self.sites.append(site)
        return site

    def start(self, site: Site) -> None:
        """Run a node's control plane."""
        config = CuratorConfig(
            node_id=site.node_id,
            credentials=site.credentials,
            ca_certificate=self.ca,
            transport=site.transport,
            endpoints=[site.endpoint, Endpoint("127.0.0.1", CURATOR_TCP_PORT)],
            consensus=site.consensus,
            relay=site.relay,
            is_disk_full=site.is_disk_full,
            clock=self.clock,
            entropy=self.entropy,
        )
        site.supervisor = Supervisor(
            curator(config), log_tree=site.log_tree, clock=self.clock, rng=Random(site.number)
        )
        site.running = self.group.create_task(site.supervisor.run())

    def join_consensus(self, site: Site) -> None:
        """Let a node's member run and vote."""
        site.consensus.set(
            ConsensusStatus(
                store=MemoryStore(self.cluster, site.member_id),
                membership=MemoryMembership(self.cluster, site.member_id),
                member_id=site.member_id,
            )
        )

    async def kill(self, site: Site) -> None:
        """Cut a node's power."""
        self.network.power_off(site.address)
        if site.member_id:
            self.cluster.stop_member(site.member_id)
        await _end(site.running)

    def dial(
        self, site: Site, credentials: Credentials | None = None, *, address: str = OPERATOR_ADDRESS
    ) -> Channel:
        """Connect as the operator, or as whoever holds the credentials and has the address."""
        verify = server_verifier(self.ca) if self.ca else insecure_verifier()
        channel = MemoryTransport(self.network, address).dial(
            site.endpoint, credentials=credentials or self.owner, verify=verify
        )
        self.channels.append(channel)
        return channel

    def dial_as_stranger(self, site: Site, key: Ed25519PrivateKey) -> Channel:
        ephemeral = Credentials(certificate=issue_ephemeral(key), key=key)
        return self.dial(site, ephemeral)

    def dial_anonymously(self, site: Site) -> Channel:
        channel = MemoryTransport(self.network, OPERATOR_ADDRESS).dial(
            site.endpoint, credentials=None, verify=server_verifier(self.ca)
        )
        self.channels.append(channel)
        return channel

    async def take_ownership(self, site: Site) -> None:
        channel = self.dial_as_stranger(site, self.owner_key)
        parameters = EscrowRequest.Parameters(
            requested_identity_name="owner", public_key=raw_public_key(self.owner_key)
        )
        async with channel.open(AAA.ESCROW) as call:
            await call.send(EscrowRequest(parameters=parameters))
            answer = await call.receive()
        assert answer is not None
        self.owner = Credentials(certificate=answer.emitted_certificate, key=self.owner_key)

    async def enrol(self, leader: Site) -> Site:
        """Make a new node and take it to UP, as node and operator would."""
        site = self.new_site()
        operator = self.dial(leader)
        ticket = await operator.call(Management.GET_REGISTER_TICKET, api.GetRegisterTicketRequest())
        machine = self.dial_as_stranger(leader, site.key)
        await machine.call(
            Curator.REGISTER_NODE,
            curator_api.RegisterNodeRequest(
                register_ticket=ticket.ticket,
                join_key=raw_public_key(site.join_key),
                have_local_tpm=True,
            ),
        )
        await operator.call(
            Management.APPROVE_NODE, api.ApproveNodeRequest(pubkey=raw_public_key(site.key))
        )
        committed = await machine.call(
            Curator.COMMIT_NODE,
            curator_api.CommitNodeRequest(
                cluster_unlock_key=self.entropy.token_bytes(32),
                storage_security=NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
            ),
        )
        assert committed.ca_certificate == self.ca
        site.certificate = committed.node_certificate
        self.start(site)
        await self.report(site, leader)
        return site

    async def report(self, site: Site, leader: Site) -> None:
        status = NodeStatus(external_address=site.address)
        await self.dial(leader, site.credentials).call(
            Curator.UPDATE_NODE_STATUS,
            curator_api.UpdateNodeStatusRequest(node_id=site.node_id, status=status),
        )

    async def promote(self, site: Site, leader: Site) -> None:
        """Make a node a voting member of the consensus."""
        request = api.UpdateNodeRolesRequest(id=site.node_id, consensus_member=True)
        await eventually(lambda: self.dial(leader).call(Management.UPDATE_NODE_ROLES, request))
        (learner,) = [state for state in self.cluster.roster if state.is_learner]
        self.cluster.start_member(learner.member_id, name=site.node_id)
        store = MemoryMembership(self.cluster, leader.member_id)
        await eventually(lambda: store.promote(learner.member_id))
        site.member_id = learner.member_id
        self.join_consensus(site)

    async def list(self, site: Site) -> list[api.Node]:
        found = []
        async with self.dial(site).open(Management.GET_NODES) as call:
            await call.send(api.GetNodesRequest())
            await call.end()
            while (node := await call.receive()) is not None:
                found.append(node)
        return found

    async def leader_among(self, *sites: Site) -> Site:
        """Return the node that answers as the leader."""
        while True:
            for site in sites:
                with suppress(MetropolisError):
                    await self.list(site)
                    return site
            await asyncio.sleep(0.1)


async def eventually(attempt: Callable[[], Awaitable[object]]) -> None:
    """Try until it succeeds, as clients do when told to try again."""
    while True:
        try:
            await attempt()
        except (UnavailableError, FailedPreconditionError):
            await asyncio.sleep(0.5)
        else:
            return


@asynccontextmanager
async def rack(seed: int = 0) -> AsyncIterator[Rack]:
    """Bootstrap a cluster of one node, owned."""
    cluster, entropy = MemoryCluster(), SimEntropy(seed)
    async with asyncio.TaskGroup() as group:
        made = Rack(
            network=MemoryNetwork(Random(seed)),
            cluster=cluster,
            group=group,
            entropy=entropy,
            owner_key=generate_key(entropy),
        )
        first = made.new_site()
        first.member_id = cluster.bootstrap(name=first.node_id, peer_url=peer_url(first.node_id))
        born = await bootstrap_cluster(
            MemoryStore(cluster, first.member_id),
            BootstrapRequest(
                node_public_key=raw_public_key(first.key),
                join_public_key=raw_public_key(first.join_key),
                owner_public_key=raw_public_key(made.owner_key),
                configuration=default_configuration(),
                tpm_usage=NODE_TPM_USAGE_PRESENT_AND_USED,
                cluster_unlock_key=entropy.token_bytes(32),
            ),
            entropy,
        )
        made.ca, first.certificate = born.ca_certificate, born.node_certificate
        made.join_consensus(first)
        made.start(first)
        await eventually(lambda: made.take_ownership(first))
        await made.report(first, first)
        yield made
        for site in made.sites:
            await _end(site.running)
        for channel in made.channels:
            await channel.close()


async def three_members(made: Rack) -> list[Site]:
    """Let two more nodes become voting members."""
    first = made.sites[0]
    for _ in range(2):
        site = await made.enrol(first)
        await made.promote(site, first)
    return made.sites


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def run(scenario: Callable[[Rack], Awaitable[None]], *, seed: int = 0) -> None:
    """Run a scenario in virtual time."""

    async def main() -> None:
        async with rack(seed) as made:
            await scenario(made)

    simulate(main, seed=seed, limit_s=600)
