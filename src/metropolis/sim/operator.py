# SPDX-License-Identifier: Apache-2.0
"""The owner of a simulated cluster: knows what they asked for, and what they were told.

Works like `metroctl`: through the Cluster API alone, from a machine outside of the cluster.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeVar, final

from metropolis.api import aaa_pb2, common_pb2, configuration_pb2, curator_pb2, management_pb2
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import CuratorLocal
from metropolis.api.rpc_management import Management
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import OWNER, issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import insecure_verifier, server_verifier
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.channel import Channel
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint, Transport
from metropolis.sim.loop import note

CALL_TIMEOUT_S: Final = 15.0
RETRY_S: Final = 1.0
_SEED_BITS: Final = 64

T = TypeVar("T")
NodeParameters = configuration_pb2.NodeParameters


@final
class Operator:
    """Owns one cluster.

    Args:
        addresses: Of all machines that may be nodes; where to look for the leader.

    Attributes:
        ca: DER of the cluster's CA, once ownership was taken.
    """

    def __init__(self, transport: Transport, *, addresses: Sequence[str], rng: Random) -> None:
        self._transport = transport
        self._seeds = [Endpoint(address, CURATOR_TCP_PORT) for address in addresses]
        self._rng = rng
        self._key = generate_key(SimEntropy(rng.getrandbits(_SEED_BITS)))
        self._credentials = Credentials(certificate=issue_ephemeral(self._key), key=self._key)
        self.ca = b""

    @property
    def credentials(self) -> Credentials:
        """What the owner shows: a certificate of the cluster, once ownership was taken."""
        return self._credentials

    def founding_parameters(self) -> NodeParameters:
        """Return what the first machine is told."""
        kinds = common_pb2.ClusterConfiguration
        return NodeParameters(
            cluster_bootstrap=NodeParameters.ClusterBootstrap(
                owner_public_key=raw_public_key(self._key),
                initial_cluster_configuration=kinds(
                    cluster_domain="cluster.internal",
                    tpm_mode=kinds.TPM_MODE_BEST_EFFORT,
                    storage_security_policy=kinds.STORAGE_SECURITY_POLICY_NEEDS_INSECURE,
                ),
            )
        )

    async def take_ownership(self, *, within_s: float) -> None:
        """Get the CA and the owner's certificate; try until it works."""

        async def attempt() -> None:
            ca = await self._ask_for_ca()
            async with self._connect(ca) as channel:
                certificate = await _escrow(channel, raw_public_key(self._key))
            self.ca = ca
            self._credentials = Credentials(certificate=certificate, key=self._key)

        await retry(attempt, within_s=within_s, rng=self._rng)
        note("operator: took ownership")

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Channel, None]:
        """Connect to the cluster as its owner."""
        assert self.ca, "take ownership first"
        async with self._connect(self.ca) as channel:
            yield channel

    async def registration_parameters(self, channel: Channel) -> NodeParameters:
        """Return what a machine is told that shall join."""
        ticket = await channel.call(
            Management.GET_REGISTER_TICKET,
            management_pb2.GetRegisterTicketRequest(),
            timeout_s=CALL_TIMEOUT_S,
        )
        info = await channel.call(
            Management.GET_CLUSTER_INFO,
            management_pb2.GetClusterInfoRequest(),
            timeout_s=CALL_TIMEOUT_S,
        )
        if not info.cluster_directory.nodes:
            raise MetropolisError("no node has reported its address yet")
        return NodeParameters(
            cluster_register=NodeParameters.ClusterRegister(
                cluster_directory=info.cluster_directory,
                register_ticket=ticket.ticket,
                ca_certificate=info.ca_certificate,
            )
        )

    async def nodes(self, channel: Channel) -> list[management_pb2.Node]:
        """List the nodes, sorted by id."""
        found: list[management_pb2.Node] = []
        async with channel.open(Management.GET_NODES, timeout_s=CALL_TIMEOUT_S) as stream:
            await stream.send(management_pb2.GetNodesRequest())
            await stream.end()
            while (node := await stream.receive()) is not None:
                found.append(node)
        return sorted(found, key=lambda node: node.id)

    async def approve(self, channel: Channel, public_key: bytes) -> None:
        """Approve one node, once."""
        await channel.call(
            Management.APPROVE_NODE,
            management_pb2.ApproveNodeRequest(pubkey=public_key),
            timeout_s=CALL_TIMEOUT_S,
        )

    async def set_consensus(self, channel: Channel, node_id: str, *, is_member: bool) -> None:
        """Give the ConsensusMember role, or take it with what depends on it, once."""
        request = management_pb2.UpdateNodeRolesRequest(id=node_id, consensus_member=is_member)
        if not is_member:
            request.kubernetes_controller = False
        await channel.call(Management.UPDATE_NODE_ROLES, request, timeout_s=CALL_TIMEOUT_S)

    async def label(self, channel: Channel, node_id: str, key: str, value: str) -> None:
        """Set one label, once."""
        pair = management_pb2.UpdateNodeLabelsRequest.Pair(key=key, value=value)
        await channel.call(
            Management.UPDATE_NODE_LABELS,
            management_pb2.UpdateNodeLabelsRequest(id=node_id, upsert=[pair]),
            timeout_s=CALL_TIMEOUT_S,
        )

    async def delete(self, channel: Channel, node_id: str, *, is_forced: bool) -> None:
        """Delete one node, once; forced: with every bypass."""
        request = management_pb2.DeleteNodeRequest(id=node_id)
        if is_forced:
            request.safety_bypass_has_roles.SetInParent()
            request.safety_bypass_not_decommissioned.SetInParent()
        await channel.call(Management.DELETE_NODE, request, timeout_s=CALL_TIMEOUT_S)

    async def synchronize_labels(self, channel: Channel, regexp: str) -> None:
        """Set the one rule for which labels Kubernetes gets, once."""
        request = management_pb2.ConfigureClusterRequest()
        request.new_config.kubernetes.node_labels_to_synchronize.add(regexp=regexp)
        request.update_mask.paths.append("kubernetes.node_labels_to_synchronize")
        await channel.call(Management.CONFIGURE_CLUSTER, request, timeout_s=CALL_TIMEOUT_S)

    @asynccontextmanager
    async def _connect(self, ca: bytes) -> AsyncGenerator[Channel, None]:
        async with ClusterChannel(
            self._transport,
            self._seeds,
            credentials=self._credentials,
            verify=server_verifier(ca),
            rng=self._rng,
            follows_members=False,
        ) as channel:
            yield channel

    async def _ask_for_ca(self) -> bytes:
        """Ask the first node, as a person does who compares the fingerprint afterwards."""
        channel = self._transport.dial(
            self._seeds[0], credentials=self._credentials, verify=insecure_verifier()
        )
        try:
            answer = await channel.call(
                CuratorLocal.GET_CA_CERTIFICATE,
                curator_pb2.GetCACertificateRequest(),
                timeout_s=CALL_TIMEOUT_S,
            )
        finally:
            await channel.close()
        return answer.identity_ca_certificate


async def _escrow(channel: Channel, public_key: bytes) -> bytes:
    request = aaa_pb2.EscrowRequest(
        parameters=aaa_pb2.EscrowRequest.Parameters(
            requested_identity_name=OWNER, public_key=public_key
        )
    )
    async with channel.open(AAA.ESCROW, timeout_s=CALL_TIMEOUT_S) as stream:
        await stream.send(request)
        await stream.end()
        while (response := await stream.receive()) is not None:
            if response.emitted_certificate:
                return response.emitted_certificate
    raise MetropolisError("the cluster issued no certificate")


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *,
    within_s: float,
    rng: Random,
    unless: tuple[type[MetropolisError], ...] = (),
) -> T:
    """Repeat a step until it works, as people and scripts do. Only for what may be repeated.

    Args:
        unless: Failures that are final.

    Raises:
        MetropolisError: the last failure, after `within_s`, or one that is final.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while True:
        try:
            return await attempt()
        except MetropolisError as error:
            if isinstance(error, unless) or loop.time() >= deadline_s:
                raise
            note(f"operator: {type(error).__name__}: {error}")
        await asyncio.sleep(rng.uniform(RETRY_S / 2, RETRY_S * 2))
