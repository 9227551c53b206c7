# SPDX-License-Identifier: Apache-2.0
"""The cluster that is measured: its CA and nodes, the same in every process. Each has a seed."""

from pathlib import Path
from typing import Final

from metropolis.api.common_pb2 import NodeStatus
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.state.records import NodeRecord, new_record
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki import certificates
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import generate_key, raw_public_key

CA: Final = certificates.issue_cluster_ca(generate_key(SimEntropy(1)), serial=1)
OWNER_KEY: Final = generate_key(SimEntropy(2))
MEMBERS: Final = (10, 11)  # seeds of the nodes that run a control plane
FIRST_NODE: Final = 1000  # seed of the first simulated node
RACKS: Final = 100  # nodes of the same rack: one in so many


def credentials(seed: int) -> Credentials:
    """Return a node's certificate and key."""
    key = generate_key(SimEntropy(seed))
    return Credentials(
        certificate=certificates.issue_node(CA, raw_public_key(key), serial=seed), key=key
    )


def owner() -> Credentials:
    """Return the owner's certificate and key."""
    certificate = certificates.issue_user(CA, raw_public_key(OWNER_KEY), identity="owner", serial=2)
    return Credentials(certificate=certificate, key=OWNER_KEY)


def node_id(seed: int) -> NodeId:
    """Return the id of a node."""
    return node_id_from_public_key(raw_public_key(generate_key(SimEntropy(seed))))


def record(seed: int) -> NodeRecord:
    """Return a node's record: UP, a worker, with the labels and the status of a usual node."""
    number = seed - FIRST_NODE
    blank = new_record(
        public_key=raw_public_key(generate_key(SimEntropy(seed))), state=NodeState.UP
    )
    status = NodeStatus(external_address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    labels = {
        "topology.example.com/rack": f"rack-{number % RACKS}",
        "topology.example.com/zone": f"zone-{number % 3}",
    }
    return (
        blank.with_unlock_key(bytes(32))
        .with_enrolment(join_key=bytes(32), tpm_usage=1)
        .with_roles(Roles(kubernetes_worker=True), None)
        .with_labels(labels)
        .with_status(status)
    )


def resident_kib() -> int:
    """Return the memory that this process holds."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])
