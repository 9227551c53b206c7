# SPDX-License-Identifier: Apache-2.0
"""The one transaction that a cluster is born with.

Everything or nothing, and repeatable: the node that was killed after it, or that lost the reply,
calls again and gets what the first call made. Another node is refused.
"""

import hmac
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from metropolis.api.common_pb2 import ClusterConfiguration, NodeRoles, NodeTPMUsage
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.base.ids import PUBLIC_KEY_BYTES, NodeId, node_id_from_public_key
from metropolis.cluster.lifecycle import NodeEvent, NodeState, advance
from metropolis.cluster.planner.reconfigure import check_configuration
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.state import keys, pki, records
from metropolis.cluster.state.fenced import Change, ConflictError, FencedStore, is_absent
from metropolis.consensus.store import Get, Put, Store
from metropolis.host import Entropy
from metropolis.pki.certificates import (
    Authority,
    build_crl,
    issue_cluster_ca,
    issue_etcd_ca,
    issue_etcd_peer,
    issue_node,
    new_serial,
)
from metropolis.pki.keys import generate_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusSeed:
    """The PKI of a consensus before it exists: its CA and the first member's certificate."""

    authority: Authority
    peer_certificate: bytes
    crl: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapRequest:
    """What the first node brings.

    Attributes:
        owner_public_key: Who may take ownership; raw Ed25519.
        cluster_unlock_key: 32 bytes, or empty when the storage is INSECURE.
        consensus: What the running consensus was started with; made here when None.
    """

    node_public_key: bytes
    join_public_key: bytes
    owner_public_key: bytes
    configuration: ClusterConfiguration
    tpm_usage: NodeTPMUsage.ValueType
    cluster_unlock_key: bytes = field(default=b"", repr=False)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    consensus: ConsensusSeed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapResult:
    """What the first node gets. Certificates are DER.

    Attributes:
        consensus: What the node's record tells it about the consensus.
    """

    node_id: NodeId
    ca_certificate: bytes
    node_certificate: bytes
    configuration: ClusterConfiguration
    consensus: NodeRoles.ConsensusMember


def seed_consensus(node_public_key: bytes, entropy: Entropy) -> ConsensusSeed:
    """Make the PKI of a new consensus, for a first member that starts before the store exists."""
    authority = issue_etcd_ca(generate_key(entropy), serial=new_serial(entropy))
    return ConsensusSeed(
        authority=authority,
        peer_certificate=issue_etcd_peer(authority, node_public_key, serial=new_serial(entropy)),
        crl=build_crl(authority, (), number=1),
    )


async def bootstrap_cluster(
    store: Store, request: BootstrapRequest, entropy: Entropy
) -> BootstrapResult:
    """Make the cluster, or find that this node has made it.

    Raises:
        InvalidArgumentError: the request is bad.
        FailedPreconditionError: the store holds another node's cluster.
        UnavailableError: the store does not answer; call again.
    """
    _check(request)
    node_id = node_id_from_public_key(request.node_public_key)
    fenced = FencedStore(store, fence=None)
    found = await _existing(fenced, request)
    if found is not None:
        return found
    with suppress(ConflictError):  # a lost reply's write, or another's: what is there decides
        await fenced.write(_birth(node_id, request, entropy))
    found = await _existing(fenced, request)
    if found is None:
        raise FailedPreconditionError(
            "the store holds parts of a cluster, but not all of it",
            remedy="Wipe this machine and install it again.",
        )
    return found


def _check(request: BootstrapRequest) -> None:
    for what, key in (
        ("node key", request.node_public_key),
        ("join key", request.join_public_key),
        ("owner_public_key", request.owner_public_key),
    ):
        if len(key) != PUBLIC_KEY_BYTES:
            raise InvalidArgumentError(
                f"{what} has {len(key)} bytes, not {PUBLIC_KEY_BYTES}",
                remedy="Make new node parameters with `metroctl install`.",
            )
    check_configuration(request.configuration)


def _birth(node_id: NodeId, request: BootstrapRequest, entropy: Entropy) -> Change:
    authority = issue_cluster_ca(generate_key(entropy), serial=new_serial(entropy))
    certificate = issue_node(authority, request.node_public_key, serial=new_serial(entropy))
    seed = request.consensus or seed_consensus(request.node_public_key, entropy)
    record = (
        records.new_record(
            public_key=request.node_public_key,
            state=advance(node_id, NodeState.ABSENT, NodeEvent.BOOTSTRAP),
        )
        .with_enrolment(join_key=request.join_public_key, tpm_usage=request.tpm_usage)
        .with_unlock_key(request.cluster_unlock_key)
        .with_labels(request.labels)
        .with_roles(
            Roles(consensus_member=True, kubernetes_controller=True),
            NodeRoles.ConsensusMember(
                ca_certificate=seed.authority.certificate,
                peer_certificate=seed.peer_certificate,
                initial_crl=seed.crl,
            ),
        )
    )
    owner = InitialOwner(public_key=request.owner_public_key)
    entries = {
        keys.node(node_id): records.encode(record),
        keys.join_key(request.join_public_key): node_id.encode("ascii"),
        keys.INITIAL_OWNER: owner.SerializeToString(),
        keys.CONFIGURATION: request.configuration.SerializeToString(deterministic=True),
    }
    return (
        Change(
            compares=tuple(is_absent(key) for key in entries),
            operations=tuple(Put(key, value) for key, value in entries.items()),
        )
        + pki.creation(pki.CLUSTER, authority, [(pki.node_name(node_id), certificate)])
        + pki.creation(pki.CONSENSUS, seed.authority, [(node_id, seed.peer_certificate)])
    )


async def _existing(fenced: FencedStore, request: BootstrapRequest) -> BootstrapResult | None:
    """Return what this node's earlier call made; None for an empty store."""
    node_id = node_id_from_public_key(request.node_public_key)
    snapshot = await fenced.read(
        Get(keys.CONFIGURATION),
        Get(keys.node(node_id)),
        Get(pki.CLUSTER.certificate(pki.CLUSTER.ca_name)),
        Get(pki.CLUSTER.certificate(pki.node_name(node_id))),
    )
    configuration, stored, ca_certificate, certificate = (snapshot.one(i) for i in range(4))
    if configuration is None and stored is None and ca_certificate is None:
        return None
    if configuration is None or stored is None or ca_certificate is None or certificate is None:
        raise FailedPreconditionError(
            "this store holds a cluster that another node has made",
            remedy="Wipe this machine and install it again.",
        )
    record = records.decode(stored)
    is_same = hmac.compare_digest(record.message.join_key, request.join_public_key)
    if not is_same or not hmac.compare_digest(
        record.message.cluster_unlock_key, request.cluster_unlock_key
    ):
        raise FailedPreconditionError(
            f"node {node_id} has made this cluster with other secrets than it brings now",
            remedy="Wipe this machine and install it again.",
        )
    return BootstrapResult(
        node_id=node_id,
        ca_certificate=ca_certificate.value,
        node_certificate=certificate.value,
        configuration=ClusterConfiguration.FromString(configuration.value),
        consensus=record.message.roles.consensus_member,
    )
