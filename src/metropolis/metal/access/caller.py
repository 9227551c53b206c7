# SPDX-License-Identifier: Apache-2.0
"""Who makes a call."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated user, component or token; or the guest.

    Attributes:
        groups: As the identity provider named them, `maas-all-all-view` and the like included.
        tenant: Empty for the guest.
        projects: None when not confined; else the only projects that may be seen or changed.
    """

    email: str
    name: str
    tenant: str = ""
    issuer: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()
    projects: frozenset[str] | None = field(default=None)


GUEST = Caller(email="anonymous@metal-stack.io", name="anonymous")
