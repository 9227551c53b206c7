# SPDX-License-Identifier: Apache-2.0
"""etcd's command line and environment. Nothing in it is secret: keys are named by their files."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.ids import NodeId
from metropolis.base.ports import CONSENSUS_TCP_PORT
from metropolis.consensus.member.start import ExistingPeer, peer_url

CLUSTER_TOKEN: Final = "METROPOLIS"  # noqa: S105  # mixed into ids, not a secret
SOCKET_NAME: Final = "client.sock:0"  # etcd insists on a port, and makes it part of the file name
METRICS_TCP_PORT: Final = 7842
# A leader sends this often; followers wait for ten of them before an election. Two cores that
# carry three nodes stay far below a second of silence; a dead leader costs 1 to 2 s.
HEARTBEAT_MS: Final = 100
ELECTION_MS: Final = 1000
# History that watches can resume from. By count, not by age, so that a storm of writes cannot
# fill the database: 10,000 changes of a few KiB are far below the quota.
KEPT_REVISIONS: Final = 10_000
DATABASE_BYTES_MAX: Final = 2 << 30
SNAPSHOT_ENTRIES: Final = 10_000  # keeps a fifth of the default's memory and a short replay

# etcd was built with cgo: the C library reads the hosts file for every lookup, where Go's own
# resolver may use one up to 5 s old, and peers appear there just before they are needed.
ENVIRONMENT: Final[Mapping[str, str]] = {"GODEBUG": "netdns=cgo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPaths:
    """Absolute paths."""

    data: str
    ca: str
    certificate: str
    key: str
    crl: str


def etcd_arguments(
    *,
    node_id: NodeId,
    paths: MemberPaths,
    listen_host: str,
    metrics_host: str,
    peers: Sequence[ExistingPeer],
    is_founding: bool,
    becomes_only_one: bool = False,
) -> Sequence[str]:
    """Build etcd's arguments. Its working directory must be where the client socket goes.

    Args:
        listen_host: Literal address to accept peers on.
        metrics_host: Literal address to serve metrics on, a loopback address.
        peers: Members there were at the invitation. Ignored by etcd once it has data.
        is_founding: The consensus is new. Ignored likewise.
        becomes_only_one: Forget all other members; for when they are lost for ever.
    """
    own_url = peer_url(node_id)
    cluster = [f"{peer.name}={peer.url}" for peer in peers if peer.name != node_id]
    cluster.append(f"{node_id}={own_url}")
    flags = {
        "name": node_id,
        "data-dir": paths.data,
        "initial-cluster-token": CLUSTER_TOKEN,
        "initial-cluster-state": "new" if is_founding else "existing",
        "initial-cluster": ",".join(cluster),
        "initial-advertise-peer-urls": own_url,
        "listen-peer-urls": _url("https", listen_host, CONSENSUS_TCP_PORT),
        "listen-client-urls": f"unix://{SOCKET_NAME}",
        "advertise-client-urls": f"unix://{SOCKET_NAME}",
        "listen-metrics-urls": _url("http", metrics_host, METRICS_TCP_PORT),
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": paths.ca,
        "peer-cert-file": paths.certificate,
        "peer-key-file": paths.key,
        "peer-crl-file": paths.crl,
        "tls-min-version": "TLS1.3",
        # A member is known by its key, not by the address it calls from, which may change.
        "experimental-peer-skip-client-san-verification": "true",
        "heartbeat-interval": str(HEARTBEAT_MS),
        "election-timeout": str(ELECTION_MS),
        "snapshot-count": str(SNAPSHOT_ENTRIES),
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": str(KEPT_REVISIONS),
        "quota-backend-bytes": str(DATABASE_BYTES_MAX),
        "experimental-initial-corrupt-check": "true",
        "experimental-compact-hash-check-enabled": "true",
        "logger": "zap",
        "log-outputs": "stderr",
        "log-level": "info",
    }
    if becomes_only_one:
        flags["force-new-cluster"] = "true"
    return [f"--{name}={value}" for name, value in flags.items()]


def _url(scheme: str, host: str, tcp_port: int) -> str:
    address = ipaddress.ip_address(host)
    text = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004  # IPv6
    return f"{scheme}://{text}:{tcp_port}"
