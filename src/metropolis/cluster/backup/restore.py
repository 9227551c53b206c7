# SPDX-License-Identifier: Apache-2.0
"""A cluster that comes back on new hardware: the same CA, owner, users and configuration.

The consensus is new, with a CA of its own, so that no member of before can ever speak to it. The
nodes of before are gone: their records and certificates are not restored, and the serials of their
certificates are on the list of revoked ones. The last transaction makes the first node; whoever was
killed before it does everything again.
"""

import hmac
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from metropolis.api.backup_pb2 import BackupState
from metropolis.api.common_pb2 import NodeRoles
from metropolis.base.errors import FailedPreconditionError
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.backup.content import Content, is_of_old_hardware, node_certificates
from metropolis.cluster.lifecycle import NodeEvent, NodeState, advance
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.state import backups, keys, pki, records
from metropolis.cluster.state.bootstrap import BootstrapRequest, BootstrapResult, seed_consensus
from metropolis.cluster.state.fenced import Change, ConflictError, FencedStore, is_absent
from metropolis.consensus.store import Get, Put, Store
from metropolis.formats.backup.archive import Record
from metropolis.host import Entropy
from metropolis.pki.certificates import build_crl, issue_node, new_serial, serial_number

# A transaction takes 128 operations and 1.5 MiB; one record alone may have almost that much.
BATCH_RECORDS: Final = 100
BATCH_BYTES: Final = 1 << 20


async def put_records(store: Store, found: Iterable[Record]) -> None:
    """Write records into a store, in several transactions. Repeating it is fine."""
    batch: list[Put] = []
    batch_bytes = 0
    for record in found:
        size_bytes = len(record.key) + len(record.value)
        if batch and (len(batch) >= BATCH_RECORDS or batch_bytes + size_bytes > BATCH_BYTES):
            await store.transact((), batch)
            batch, batch_bytes = [], 0
        batch.append(Put(record.key, record.value))
        batch_bytes += size_bytes
    if batch:
        await store.transact((), batch)


async def restore_cluster(
    store: Store,
    content: Content,
    request: BootstrapRequest,
    entropy: Entropy,
    *,
    known_generation: int = 0,
) -> BootstrapResult:
    """Write a cluster into the store of a new consensus, or find that this node has done so.

    Args:
        request: What the first node brings; owner and configuration are the backup's.
        known_generation: The newest that anybody knows of: counting goes on from there.

    Raises:
        FailedPreconditionError: the store holds another node's cluster.
        UnavailableError: the store does not answer; call again.
    """
    fenced = FencedStore(store, fence=None)
    made = await _made(fenced, content, request)
    if made is not None:
        return made
    kept = [record for record in content.records if not is_of_old_hardware(record.key)]
    await put_records(store, kept)
    with suppress(ConflictError):  # a lost reply's write: what is there decides
        await fenced.write(_birth(content, request, entropy, known_generation))
    made = await _made(fenced, content, request)
    if made is None:
        raise FailedPreconditionError(
            "the store holds another cluster", remedy="Wipe this machine and install it again."
        )
    return made


def _birth(
    content: Content, request: BootstrapRequest, entropy: Entropy, known_generation: int
) -> Change:
    node_id = node_id_from_public_key(request.node_public_key)
    seed = request.consensus or seed_consensus(request.node_public_key, entropy)
    certificate = issue_node(content.authority, request.node_public_key, serial=new_serial(entropy))
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
    newest = max(content.header.generation, known_generation)
    entries = {
        keys.node(node_id): records.encode(record),
        keys.join_key(request.join_public_key): node_id.encode("ascii"),
        pki.CLUSTER.certificate(pki.node_name(node_id)): certificate,
    }
    return Change(
        compares=tuple(is_absent(key) for key in entries),
        operations=(
            *(Put(key, value) for key, value in entries.items()),
            Put(backups.STATE, BackupState(newest_generation=newest).SerializeToString()),
            Put(pki.CLUSTER.crl, _revocations(content)),
        ),
    ) + pki.creation(pki.CONSENSUS, seed.authority, [(node_id, seed.peer_certificate)])


def _revocations(content: Content) -> bytes:
    """Return the cluster's list of revoked certificates with those of all nodes there were."""
    serials: Sequence[int] = ()
    number = 0
    for record in content.records:
        if record.key == pki.CLUSTER.crl:
            with suppress(ValueError):
                serials, number = pki.read_crl(record.value)
    gone = [serial_number(each) for each in node_certificates(content.records)]
    every = dict.fromkeys((*serials, *gone))
    return build_crl(content.authority, every, number=number + 1)


async def _made(
    fenced: FencedStore, content: Content, request: BootstrapRequest
) -> BootstrapResult | None:
    """Return what this node's earlier call made."""
    node_id: NodeId = node_id_from_public_key(request.node_public_key)
    snapshot = await fenced.read(
        Get(keys.node(node_id)), Get(pki.CLUSTER.certificate(pki.node_name(node_id)))
    )
    stored, certificate = snapshot.one(0), snapshot.one(1)
    if stored is None or certificate is None:
        return None
    record = records.decode(stored)
    if not hmac.compare_digest(record.message.join_key, request.join_public_key):
        raise FailedPreconditionError(
            f"node {node_id} has made this cluster with other secrets than it brings now",
            remedy="Wipe this machine and install it again.",
        )
    return BootstrapResult(
        node_id=node_id,
        ca_certificate=content.authority.certificate,
        node_certificate=certificate.value,
        configuration=content.configuration,
        consensus=record.message.roles.consensus_member,
    )
