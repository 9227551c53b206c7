# SPDX-License-Identifier: Apache-2.0
"""Who may do what: permissions, roles, and what follows from grants. Pure.

Every permission has a name, "<subject>.<verb>". Upstream's have a number, too, which is what its
methods carry; a method of ours carries names.

    grants of a user ──┐
                       ├──▶ roles ──▶ permissions      the owner holds every one, granted or not
    of its groups   ───┘        └──── and those granted by themselves

Whoever is not the owner gives only what it holds, and changes only who holds no more than it does:
otherwise the right to make users would be every right.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from metropolis.api.authorization_pb2 import Permission
from metropolis.api.methods import Method
from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError

OWNER: Final = "owner"
NAME_CHARS_MAX: Final = 63
GROUPS_PER_USER_MAX: Final = 64
PERMISSIONS_REFERENCE: Final = "docs/reference/permissions.md"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")

# Upstream's permissions, by their number.
UPSTREAM: Final[Mapping[int, str]] = {
    Permission.PERMISSION_GET_REGISTER_TICKET: "ticket.read",
    Permission.PERMISSION_READ_CLUSTER_STATUS: "cluster.read",
    Permission.PERMISSION_UPDATE_NODE_SELF: "node.self",
    Permission.PERMISSION_APPROVE_NODE: "node.approve",
    Permission.PERMISSION_UPDATE_NODE_ROLES: "node.roles",
    Permission.PERMISSION_READ_NODE_LOGS: "node.logs",
    Permission.PERMISSION_UPDATE_NODE: "node.update",
    Permission.PERMISSION_DECOMMISSION_NODE: "node.decommission",
    Permission.PERMISSION_DELETE_NODE: "node.delete",
    Permission.PERMISSION_UPDATE_NODE_LABELS: "node.labels",
    Permission.PERMISSION_NODE_POWER_MANAGEMENT: "node.power",
    Permission.PERMISSION_CONFIGURE_CLUSTER: "cluster.configure",
}

# Every permission with what it allows, in the order people read them.
PERMISSIONS: Final[Mapping[str, str]] = {
    "cluster.read": "read nodes, their status, the directory, the configuration and the members",
    "cluster.configure": "change the configuration of the cluster",
    "cluster.recover": "go on when nobody leads, alone or after a move of all; only the owner does",
    "consensus.defragment": "have consensus members give room back that they do not need",
    "node.approve": "let a registered node become a member",
    "node.roles": "give roles to nodes and take them away",
    "node.labels": "set and delete labels of nodes",
    "node.logs": "read the logs of nodes",
    "node.power": "reboot nodes and power them off",
    "node.update": "install another system image on a node",
    "node.decommission": "empty a node and retire it",
    "node.delete": "forget a node",
    "node.self": "report about a node; only nodes hold it, each for itself",
    "ticket.read": "read the ticket that machines register with",
    "ticket.rotate": "replace that ticket",
    "audit.read": "read and verify the audit log",
    "backup.create": "make a backup of the cluster's state",
    "backup.read": "list and fetch backups",
    "backup.configure": "change when and how backups are made",
    "users.read": "list users, groups and what they were granted",
    "users.write": "make, change and delete users and groups that hold no more than oneself",
    "owner.rotate": "replace the owner's key; only the owner holds it",
}

NOT_GRANTABLE: Final = frozenset({"node.self", "owner.rotate", "cluster.recover"})

_VIEWER: Final = frozenset({"cluster.read", "node.logs"})
_NODE_ADMIN: Final = _VIEWER | {
    "node.approve",
    "node.roles",
    "node.labels",
    "node.power",
    "node.update",
    "node.decommission",
    "node.delete",
    "ticket.read",
    "ticket.rotate",
}
_OPERATOR: Final = _NODE_ADMIN | {
    "cluster.configure",
    "consensus.defragment",
    "audit.read",
    "backup.create",
    "backup.read",
    "users.read",
}

ROLES: Final[Mapping[str, frozenset[str]]] = {
    "viewer": _VIEWER,
    "node-admin": _NODE_ADMIN,
    "operator": _OPERATOR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What was granted to a user or a group. Names that this build does not know give nothing."""

    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def __or__(self, other: "Granted") -> "Granted":
        return Granted(
            roles=self.roles | other.roles,
            permissions=self.permissions | other.permissions,
            groups=self.groups | other.groups,
        )

    def __sub__(self, other: "Granted") -> "Granted":
        return Granted(
            roles=self.roles - other.roles,
            permissions=self.permissions - other.permissions,
            groups=self.groups - other.groups,
        )


def effective(granted: Granted, groups: Mapping[str, Granted]) -> frozenset[str]:
    """Return every permission that follows from grants.

    Args:
        groups: What each group was granted; one that is missing gives nothing.
    """
    held = _direct(granted)
    for name in granted.groups:
        held |= _direct(groups.get(name, Granted()))
    return held


def _direct(granted: Granted) -> frozenset[str]:
    held = {name for name in granted.permissions if name in PERMISSIONS}
    for role in granted.roles:
        held |= ROLES.get(role, frozenset())
    return frozenset(held) - NOT_GRANTABLE


class HeldPermissions:
    """Permissions as an authenticator asks for them: upstream's by number, ours by name."""

    __slots__ = ("names",)

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def __contains__(self, permission: object, /) -> bool:
        if isinstance(permission, int):
            return UPSTREAM.get(permission) in self.names
        return permission in self.names


def needed(method: Method[Any, Any]) -> tuple[str, ...]:
    """Return the names of the permissions that a method takes, all of them."""
    return (*(UPSTREAM[number] for number in method.needs or ()), *method.requires)


def roles_that_hold(permissions: Iterable[str]) -> list[str]:
    """Return the roles that hold all of these, the least powerful first."""
    wanted = frozenset(permissions)
    return [name for name, held in ROLES.items() if wanted <= held]


def check_name(name: str, what: str) -> str:
    """Return the name of a user or a group.

    Args:
        what: "user" or "group".

    Raises:
        InvalidArgumentError: it cannot be one.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidArgumentError(
            f"{name[:64]!r} cannot be the name of a {what}",
            remedy=f"Use at most {NAME_CHARS_MAX} lower-case letters, digits, '.', '_' and '-', "
            "starting and ending with a letter or digit.",
        )
    if name == OWNER or name.startswith("metropolis-"):
        raise InvalidArgumentError(
            f"{name!r} is no name for a {what}: the cluster itself uses it",
            remedy="Choose another name.",
        )
    return name


def check_grants(granted: Granted, known_groups: Iterable[str], *, is_group: bool) -> None:
    """Check that grants name what exists and can be granted.

    Raises:
        InvalidArgumentError: they do not.
    """
    for role in sorted(granted.roles - ROLES.keys()):
        raise InvalidArgumentError(
            f"there is no role {role[:64]!r}", remedy=f"Use one of {', '.join(ROLES)}."
        )
    for permission in sorted(granted.permissions):
        if permission not in PERMISSIONS:
            raise InvalidArgumentError(
                f"there is no permission {permission[:64]!r}",
                remedy=f"{PERMISSIONS_REFERENCE} lists them.",
            )
        if permission in NOT_GRANTABLE:
            raise InvalidArgumentError(
                f"{permission} cannot be granted: it allows to {PERMISSIONS[permission]}",
                remedy="Grant another permission.",
            )
    if granted.groups and is_group:
        raise InvalidArgumentError(
            "a group cannot be a member of a group", remedy="Make users its members."
        )
    for group in sorted(granted.groups.difference(known_groups)):
        raise InvalidArgumentError(
            f"there is no group {group[:64]!r}",
            remedy="Make it with `metroctl user group create`, or list them with "
            "`metroctl user group list`.",
        )
    if len(granted.groups) > GROUPS_PER_USER_MAX:
        raise InvalidArgumentError(
            f"a user can be in {GROUPS_PER_USER_MAX} groups", remedy="Merge some groups."
        )


def check_reach(caller: frozenset[str] | None, subject: frozenset[str], what: str) -> None:
    """Check that a caller holds everything that a user or group holds, before or after a change.

    Args:
        caller: What the caller holds; None: the owner, who may do everything.
        subject: What the subject holds.
        what: The subject, for people.

    Raises:
        PermissionDeniedError: the subject holds more.
    """
    if caller is None:
        return
    beyond = sorted(subject - caller)
    if beyond:
        raise PermissionDeniedError(
            f"{what} holds {', '.join(beyond)}, which you do not hold yourself",
            remedy="Ask the owner, or somebody who holds that too.",
        )
