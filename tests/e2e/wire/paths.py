# SPDX-License-Identifier: Apache-2.0
"""Methods and ports as upstream spells them."""

from typing import Final

CURATOR_TCP_PORT: Final = 7835
NODE_MANAGEMENT_TCP_PORT: Final = 7839
KUBERNETES_TCP_PORT: Final = 6444

_AAA: Final = "/metropolis.proto.api.AAA/"
_MANAGEMENT: Final = "/metropolis.proto.api.Management/"
_NODE_MANAGEMENT: Final = "/metropolis.proto.api.NodeManagement/"
_CURATOR: Final = "/metropolis.node.core.curator.proto.api.Curator/"
_CURATOR_LOCAL: Final = "/metropolis.node.core.curator.proto.api.CuratorLocal/"

ESCROW: Final = _AAA + "Escrow"

GET_REGISTER_TICKET: Final = _MANAGEMENT + "GetRegisterTicket"
GET_CLUSTER_INFO: Final = _MANAGEMENT + "GetClusterInfo"
GET_NODES: Final = _MANAGEMENT + "GetNodes"
APPROVE_NODE: Final = _MANAGEMENT + "ApproveNode"
UPDATE_NODE_ROLES: Final = _MANAGEMENT + "UpdateNodeRoles"
DECOMMISSION_NODE: Final = _MANAGEMENT + "DecommissionNode"
DELETE_NODE: Final = _MANAGEMENT + "DeleteNode"
UPDATE_NODE_LABELS: Final = _MANAGEMENT + "UpdateNodeLabels"
CONFIGURE_CLUSTER: Final = _MANAGEMENT + "ConfigureCluster"

LOGS: Final = _NODE_MANAGEMENT + "Logs"
UPDATE_NODE: Final = _NODE_MANAGEMENT + "UpdateNode"
REBOOT: Final = _NODE_MANAGEMENT + "Reboot"

WATCH: Final = _CURATOR + "Watch"
UPDATE_NODE_STATUS: Final = _CURATOR + "UpdateNodeStatus"
HEARTBEAT: Final = _CURATOR + "Heartbeat"
REGISTER_NODE: Final = _CURATOR + "RegisterNode"
COMMIT_NODE: Final = _CURATOR + "CommitNode"
JOIN_NODE: Final = _CURATOR + "JoinNode"
ISSUE_CERTIFICATE: Final = _CURATOR + "IssueCertificate"
UPDATE_NODE_CLUSTER_NETWORKING: Final = _CURATOR + "UpdateNodeClusterNetworking"
GET_CONSENSUS_STATUS: Final = _CURATOR + "GetConsensusStatus"

GET_CURRENT_LEADER: Final = _CURATOR_LOCAL + "GetCurrentLeader"
GET_CA_CERTIFICATE: Final = _CURATOR_LOCAL + "GetCACertificate"
