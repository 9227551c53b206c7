# SPDX-License-Identifier: Apache-2.0
"""The three roles of the interface, what is below them, and the groups that give them."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final


class Role(IntEnum):
    """Who may call; whoever has a greater role may, too."""

    NONE = 0  # everybody
    ANY = 1  # whoever belongs to the provider tenant
    VIEW = 2
    EDIT = 3
    ADMIN = 4


# What a directory must say of a user, by role.
GROUPS: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.VIEW: ("k8s_kaas-view", "maas-all-all-view"),
    Role.EDIT: ("k8s_kaas-edit", "maas-all-all-edit"),
    Role.ADMIN: ("k8s_kaas-admin", "maas-all-all-admin"),
}
_ROLES: Final = {group: role for role, groups in GROUPS.items() for group in groups}


def role_of(groups: Iterable[str]) -> Role:
    """Return the greatest role that these groups give, `ANY` when none of them does."""
    return max((_ROLES.get(group, Role.ANY) for group in groups), default=Role.ANY)


def groups_of(role: Role) -> list[str]:
    """Return the groups whose members may do what `role` is needed for."""
    return sorted(group for given, groups in GROUPS.items() if given >= role for group in groups)
