# SPDX-License-Identifier: Apache-2.0
"""The documented ports of a node. Nothing else may listen on an outside address.

Clients of the original compile these numbers in, so several nodes on one machine need distinct
addresses, never distinct ports.
"""

from typing import Final

CONSENSUS_TCP_PORT: Final = 7834  # etcd peers, mutual TLS under the etcd CA
CURATOR_TCP_PORT: Final = 7835  # gRPC: AAA, Management, Curator, CuratorLocal
NODE_DEBUG_TCP_PORT: Final = 7837  # debug images only
WIREGUARD_UDP_PORT: Final = 7838
NODE_MANAGEMENT_TCP_PORT: Final = 7839  # gRPC: NodeManagement
METRICS_TCP_PORT: Final = 7840  # HTTPS: figures for Prometheus
KUBERNETES_API_TCP_PORT: Final = 6443
KUBERNETES_API_WRAPPED_TCP_PORT: Final = 6444  # Kubernetes API behind Metropolis certificates

TCP_PORT_NAMES: Final[dict[int, str]] = {
    CONSENSUS_TCP_PORT: "consensus",
    CURATOR_TCP_PORT: "curator",
    NODE_DEBUG_TCP_PORT: "debug",
    NODE_MANAGEMENT_TCP_PORT: "node-mgmt",
    METRICS_TCP_PORT: "metrics",
    KUBERNETES_API_TCP_PORT: "kubernetes-api",
    KUBERNETES_API_WRAPPED_TCP_PORT: "kubernetes-api-wrapped",
}

CLIENT_TCP_PORTS: Final = (  # what an operator's tool may dial on a node, see the lab's proxy
    CURATOR_TCP_PORT,
    NODE_MANAGEMENT_TCP_PORT,
    METRICS_TCP_PORT,
    NODE_DEBUG_TCP_PORT,
    KUBERNETES_API_WRAPPED_TCP_PORT,
)

OPEN_TCP_PORTS: Final = (  # what a node's firewall lets in; every one authenticates by itself
    CONSENSUS_TCP_PORT,
    CURATOR_TCP_PORT,
    NODE_MANAGEMENT_TCP_PORT,
    METRICS_TCP_PORT,
    KUBERNETES_API_WRAPPED_TCP_PORT,
)
DEBUG_TCP_PORTS: Final = (NODE_DEBUG_TCP_PORT,)  # open in debug images as well
