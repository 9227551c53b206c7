# SPDX-License-Identifier: Apache-2.0
"""Rules that a firewall begins with, stored and answered in the same shape."""

from typing import Literal, TypeAlias

from msgspec import Struct, field

FirewallProtocol: TypeAlias = Literal["tcp", "udp"]


class EgressRule(Struct, frozen=True, kw_only=True):
    """What may go out.

    Attributes:
        to: Destinations, as prefixes of one address family.
    """

    protocol: FirewallProtocol
    ports: tuple[int, ...]
    to: tuple[str, ...]
    comment: str = ""


class IngressRule(Struct, frozen=True, kw_only=True):
    """What may come in.

    Attributes:
        sources: Where from, as prefixes of one address family; `to` is of the same.
    """

    protocol: FirewallProtocol
    ports: tuple[int, ...]
    sources: tuple[str, ...] = field(name="from")
    to: tuple[str, ...] = ()
    comment: str = ""


class FirewallRules(Struct, frozen=True, kw_only=True):
    """All rules of a firewall."""

    egress: tuple[EgressRule, ...] = ()
    ingress: tuple[IngressRule, ...] = ()
