# SPDX-License-Identifier: Apache-2.0
"""Every method of the control plane with what answers it.

The same table serves for as long as the node runs: a method asks for the leader when it is called,
so a node that does not lead says who does, and every call ends with the tenure it began in.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from metropolis.api.methods import Method
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_audit import Audit
from metropolis.api.rpc_backup import Backup, BackupCopies
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_decommission import Farewell, Nodes
from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import Management
from metropolis.api.rpc_users import Users
from metropolis.cluster.leader import Leader
from metropolis.cluster.office import Office
from metropolis.cluster.services import (
    aaa,
    audit,
    backup,
    curator,
    decommission,
    enrolment,
    grants,
    introspection,
    management,
    nodes,
    owner_key,
    tickets,
    users,
    watch,
    whoami,
)
from metropolis.cluster.services.curator_local import CuratorLocal as LocalService
from metropolis.rpc.channel import ServerStream, Services
from metropolis.rpc.peer import Peer

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class _Registry:
    def __init__(self, office: Office) -> None:
        self.services = Services()
        self._office = office

    def unary(
        self, method: Method[Req, Res], answer: Callable[[Leader, Req, Peer], Awaitable[Res]]
    ) -> None:
        async def handler(request: Req, peer: Peer) -> Res:
            leader = self._office.leading()
            with leader.tenure.bound(), leader.auditor.calling(method, peer, request):
                return await answer(leader, request, peer)

        self.services.unary(method, handler)

    def stream(
        self,
        method: Method[Req, Res],
        answer: Callable[[Leader, ServerStream[Req, Res]], Awaitable[None]],
    ) -> None:
        async def handler(stream: ServerStream[Req, Res]) -> None:
            leader = self._office.leading()
            with leader.tenure.bound(), leader.auditor.calling(method, stream.peer):
                await answer(leader, stream)

        self.services.stream(method, handler)


def control_plane(office: Office, local: LocalService) -> Services:
    """Return what every node serves on the curator's port."""
    registry = _Registry(office)
    registry.stream(AAA.ESCROW, aaa.escrow)
    registry.unary(Management.GET_REGISTER_TICKET, management.get_register_ticket)
    registry.unary(Management.GET_CLUSTER_INFO, management.get_cluster_info)
    registry.stream(Management.GET_NODES, nodes.get_nodes)
    registry.unary(Management.APPROVE_NODE, management.approve_node)
    registry.unary(Management.UPDATE_NODE_ROLES, management.update_node_roles)
    registry.unary(Management.DECOMMISSION_NODE, decommission.decommission_node)
    registry.unary(Management.DELETE_NODE, management.delete_node)
    registry.unary(Management.UPDATE_NODE_LABELS, management.update_node_labels)
    registry.unary(Management.CONFIGURE_CLUSTER, management.configure_cluster)
    registry.stream(Curator.WATCH, watch.watch)
    registry.unary(Curator.UPDATE_NODE_STATUS, curator.update_node_status)
    registry.stream(Curator.HEARTBEAT, curator.heartbeat)
    registry.unary(Curator.REGISTER_NODE, enrolment.register_node)
    registry.unary(Curator.COMMIT_NODE, enrolment.commit_node)
    registry.unary(Curator.JOIN_NODE, enrolment.join_node)
    registry.unary(Curator.ISSUE_CERTIFICATE, curator.issue_certificate)
    registry.unary(Curator.UPDATE_NODE_CLUSTER_NETWORKING, curator.update_node_cluster_networking)
    registry.unary(Curator.GET_CONSENSUS_STATUS, curator.get_consensus_status)
    registry.stream(Nodes.DECOMMISSION, decommission.decommission)
    registry.unary(Nodes.ROTATE_REGISTER_TICKET, tickets.rotate_register_ticket)
    registry.unary(Farewell.ACCEPT_WIPE, decommission.accept_wipe)
    registry.unary(Farewell.REPORT_WIPED, decommission.report_wiped)
    registry.unary(Introspection.EXPLAIN_NODE, introspection.explain_node)
    registry.unary(Users.CREATE_USER, users.create_user)
    registry.unary(Users.LIST_USERS, users.list_users)
    registry.unary(Users.DELETE_USER, users.delete_user)
    registry.unary(Users.GRANT, grants.grant)
    registry.unary(Users.REVOKE, grants.revoke)
    registry.unary(Users.ISSUE_PASSWORD, users.issue_password)
    registry.unary(Users.REVOKE_CERTIFICATES, users.revoke_certificates)
    registry.unary(Users.CREATE_GROUP, grants.create_group)
    registry.unary(Users.DELETE_GROUP, grants.delete_group)
    registry.unary(Users.ROTATE_OWNER_KEY, owner_key.rotate_owner_key)
    registry.unary(Users.WHO_AM_I, whoami.who_am_i)
    registry.unary(Users.CAN_I, whoami.can_i)
    registry.stream(Users.WATCH_ACCESS, whoami.watch_access)
    registry.stream(Audit.LIST, audit.list_records)
    registry.unary(Audit.GET_HEAD, audit.get_head)
    _backups(registry)
    registry.services.stream(CuratorLocal.GET_CURRENT_LEADER, local.get_current_leader)
    registry.services.unary(CuratorLocal.GET_CA_CERTIFICATE, local.get_ca_certificate)
    return registry.services


def _backups(registry: _Registry) -> None:
    registry.stream(Backup.CREATE_BACKUP, backup.create_backup)
    registry.stream(Backup.FETCH_BACKUP, backup.fetch_backup)
    registry.unary(Backup.LIST_BACKUPS, backup.list_backups)
    registry.unary(Backup.GET_BACKUP_SETTINGS, backup.get_backup_settings)
    registry.unary(Backup.SET_RECOVERY_KEY, backup.set_recovery_key)
    registry.unary(Backup.SET_SCHEDULE, backup.set_schedule)
    registry.unary(BackupCopies.COMPARE, backup.compare_copies)
    registry.stream(BackupCopies.FETCH, backup.fetch_copy)
