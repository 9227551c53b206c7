# SPDX-License-Identifier: Apache-2.0
"""What an enrolment may touch, and what both flows do alike."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import common_pb2, configuration_pb2
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.cluster.planner import storage as storage_policy
from metropolis.cluster.planner import tpm as tpm_policy
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.host import Host
from metropolis.node.enrolment.lifecycle import Step
from metropolis.node.identity import write_credentials, write_sealed_configuration
from metropolis.node.intent import ConsensusIntent
from metropolis.node.partition import DataPartition, choose_security
from metropolis.node.sealing.sealer import Sealer
from metropolis.node.storage import ENROLMENT_RECORD, NodeStorage
from metropolis.pki import keys
from metropolis.pki.unlock import ClusterUnlockKey, DiskKey, NodeUnlockKey, disk_key
from metropolis.rpc.transport import Transport
from metropolis.supervision import Context, Value

Action = Callable[[EnrolmentRecord], Awaitable[None]]
Actions = Mapping[Step, Action]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentEdges:
    """Everything around an enrolment.

    Attributes:
        parameters: Checked node parameters; None when a finished node has lost them, which is fine.
        intent: What the control plane is to run; bootstrap sets it before there are roles.
        consensus: The local consensus member, once it answers.
        sealer: Of this machine's TPM; None: it has none.
    """

    host: Host
    storage: NodeStorage
    transport: Transport
    partition: DataPartition
    parameters: configuration_pb2.NodeParameters | None
    intent: Value[ConsensusIntent | None] = field(repr=False)
    consensus: Value[ConsensusStatus | None] = field(repr=False)
    sealer: Sealer | None = None

    @property
    def has_local_tpm(self) -> bool:
        """Whether this machine has a TPM; what it is used for is the cluster's policy."""
        return self.sealer is not None


def create_keys(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    """Make what identifies this node for ever. Nothing outside the record knows of it yet."""
    entropy = edges.host.entropy
    record.node_private_key = keys.generate_key(entropy).private_bytes_raw()
    record.join_private_key = keys.generate_key(entropy).private_bytes_raw()


def node_key(record: EnrolmentRecord) -> Ed25519PrivateKey:
    """The node's key."""
    return Ed25519PrivateKey.from_private_bytes(record.node_private_key)


def join_key(record: EnrolmentRecord) -> Ed25519PrivateKey:
    """The key that the node shows before its disk is open."""
    return Ed25519PrivateKey.from_private_bytes(record.join_private_key)


def plan_policies(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    """Decide TPM usage and storage security from the cluster's configuration."""
    configuration = record.cluster_configuration
    record.tpm_usage = tpm_policy.usage_at_enrolment(
        configuration.tpm_mode, has_tpm=edges.has_local_tpm
    )
    plan_storage(edges, record, storage_policy.recommended(configuration.storage_security_policy))


def plan_storage(
    edges: EnrolmentEdges,
    record: EnrolmentRecord,
    recommended: common_pb2.NodeStorageSecurity.ValueType,
) -> None:
    """Choose the storage security and make both halves of the disk key where one is needed."""
    policy = record.cluster_configuration.storage_security_policy
    record.storage_security = choose_security(
        recommended=recommended,
        accepted=storage_policy.POLICIES[policy][1],
        offers=edges.partition.offers,
    )
    if record.storage_security != common_pb2.NODE_STORAGE_SECURITY_INSECURE:
        record.node_unlock_key = NodeUnlockKey.generate(edges.host.entropy).data
        record.cluster_unlock_key = ClusterUnlockKey.generate(edges.host.entropy).data


def partition_key(record: EnrolmentRecord) -> DiskKey | None:
    """Both halves together; None for storage without encryption."""
    if record.storage_security == common_pb2.NODE_STORAGE_SECURITY_INSECURE:
        return None
    return disk_key(
        NodeUnlockKey(record.node_unlock_key), ClusterUnlockKey(record.cluster_unlock_key)
    )


async def make_partition(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    """Make the data partition; a crash before the step is written makes it again, empty."""
    await edges.partition.make(record.storage_security, partition_key(record))


async def save_credentials(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    """Put certificates and key where every later start finds them."""
    await write_credentials(
        edges.storage,
        key=node_key(record),
        certificate=record.node_certificate,
        ca_certificate=record.ca_certificate,
    )


async def seal(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    """Write what must be known before the disk is open."""
    await write_sealed_configuration(
        edges.storage,
        join_key=join_key(record),
        node_unlock_key=record.node_unlock_key,
        storage_security=record.storage_security,
        ca_certificate=record.ca_certificate,
        seals=record.tpm_usage == common_pb2.NODE_TPM_USAGE_PRESENT_AND_USED,
    )


async def finish(edges: EnrolmentEdges, _record: EnrolmentRecord) -> None:
    """Remove the record: it holds keys, and nothing needs it any more."""
    await edges.storage.remove(ENROLMENT_RECORD)


def conceal_secrets(ctx: Context, record: EnrolmentRecord) -> None:
    """Make sure that no log entry can show a key of this record."""
    for secret in (
        record.node_private_key,
        record.join_private_key,
        record.node_unlock_key,
        record.cluster_unlock_key,
        record.consensus_ca_private_key,
    ):
        if secret:
            ctx.log_tree.conceal(secret)
