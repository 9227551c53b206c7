# SPDX-License-Identifier: Apache-2.0
"""What a directory's group names mean, in the three ways that directories spell them.

    plain  maas-all-all-view
    ldap   <tenant>_<app>-<scope>-<scope>-<role>
    ad     <Tn>Pg_Srv_App<app>-<scope>-<scope>-<role>_full      case does not matter

Names of other tenants mean nothing here. A hyphen inside a part is written `$`; a first scope
`<tenant>#<scope>` says on behalf of which tenant the role is held.
"""

import re
from collections.abc import Iterable
from typing import Final

from metropolis.metal.access.role import GROUPS

_AD: Final = re.compile(r"(?P<tenant>[a-z0-9]{2})pg_srv_app(?P<rest>.+)_full")
_PARTS: Final = 4
_KNOWN: Final = frozenset(group for groups in GROUPS.values() for group in groups)
_LDAP: Final = frozenset({"ldap", "ux"})


def access_of(names: Iterable[str], *, idm_type: str, tenant: str) -> tuple[str, ...]:
    """Return what the groups of a user give in this tenant, sorted, without repetition.

    Args:
        idm_type: `ad`, `ldap` or `ux` as the tenant's IAM configuration says, in any case;
            anything else means plain.
    """
    kind = idm_type.casefold()
    if kind == "ad":
        found = (_from_ad(name, tenant) for name in names)
    elif kind in _LDAP:
        found = (_from_ldap(name, tenant) for name in names)
    else:
        found = (name for name in names)
    return tuple(sorted({each for each in found if each}))


def _from_ldap(name: str, tenant: str) -> str:
    owner, _, rest = name.partition("_")
    return _canonical(rest, tenant) if owner.casefold() == tenant.casefold() else ""


def _from_ad(name: str, tenant: str) -> str:
    match = _AD.fullmatch(name.casefold())
    if match is None or match["tenant"] != tenant.casefold()[:2]:
        return ""
    return _canonical(match["rest"], tenant)


def _canonical(text: str, tenant: str) -> str:
    if text in _KNOWN:
        return text
    parts = text.split("-")
    if len(parts) != _PARTS or not all(parts):
        return ""
    on_behalf, mark, scope = parts[1].partition("#")
    if mark:
        if on_behalf.replace("$", "-").casefold() != tenant.casefold():
            return ""
        parts[1] = scope
    return "-".join(part.replace("$", "-") for part in parts)
