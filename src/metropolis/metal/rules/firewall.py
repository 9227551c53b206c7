# SPDX-License-Identifier: Apache-2.0
"""Which rules a firewall can begin with."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.firewall_rules import (
    EgressRule,
    FirewallProtocol,
    FirewallRules,
    IngressRule,
)
from metropolis.metal.model.machine_request import FirewallRulesRequest

COMMENT_LENGTH_MAX: Final = 100
PORT_MAX: Final = 65535
_COMMENT: Final = re.compile(r"[A-Za-z_\- ]*")


def parse_rules(request: FirewallRulesRequest | None) -> FirewallRules | None:
    """Judge the rules of a request.

    Raises:
        InvalidArgumentError: naming the rule and what is wrong with it.
    """
    if request is None:
        return None
    egress: list[EgressRule] = []
    for index, rule in enumerate(request.egress or ()):
        where = f"firewall_rules.egress[{index}]"
        to = _prefixes(where, rule.to or ())
        egress.append(
            EgressRule(
                protocol=_protocol(where, rule.protocol),
                ports=_ports(where, rule.ports or ()),
                to=_one_family(where, to),
                comment=_comment(where, rule.comment),
            )
        )
    ingress: list[IngressRule] = []
    for index, each in enumerate(request.ingress or ()):
        where = f"firewall_rules.ingress[{index}]"
        sources, targets = _prefixes(where, each.sources or ()), _prefixes(where, each.to or ())
        _one_family(where, (*sources, *targets))
        ingress.append(
            IngressRule(
                protocol=_protocol(where, each.protocol),
                ports=_ports(where, each.ports or ()),
                sources=sources,
                to=targets,
                comment=_comment(where, each.comment),
            )
        )
    return FirewallRules(egress=tuple(egress), ingress=tuple(ingress))


def _protocol(where: str, text: str | None) -> FirewallProtocol:
    match (text or "tcp").lower():
        case "tcp":
            return "tcp"
        case "udp":
            return "udp"
        case _:
            raise InvalidArgumentError(
                f"{where}.protocol: {(text or '')[:40]!r} is neither tcp nor udp",
                remedy="Give tcp or udp, or leave it out for tcp.",
            )


def _ports(where: str, ports: Iterable[int]) -> tuple[int, ...]:
    found = tuple(ports)
    for port in found:
        if not 0 <= port <= PORT_MAX:
            raise InvalidArgumentError(
                f"{where}.ports: {port} is no port", remedy=f"Give ports from 0 to {PORT_MAX}."
            )
    return found


def _comment(where: str, text: str | None) -> str:
    comment = text or ""
    if len(comment) > COMMENT_LENGTH_MAX or _COMMENT.fullmatch(comment) is None:
        raise InvalidArgumentError(
            f"{where}.comment: it is too long, or has other characters than it may",
            remedy=f"Use at most {COMMENT_LENGTH_MAX} letters, dashes, underscores and spaces.",
        )
    return comment


def _prefixes(where: str, texts: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise InvalidArgumentError(
                f"{where}: {text[:60]!r} is no prefix",
                remedy="Write it as address/length, 10.0.0.0/8.",
            ) from None
    return tuple(found)


def _one_family(where: str, prefixes: Sequence[str]) -> tuple[str, ...]:
    if len({":" in prefix for prefix in prefixes}) > 1:
        raise InvalidArgumentError(
            f"{where}: prefixes of both address families in one rule",
            remedy="Make it two rules, one for IPv4 and one for IPv6.",
        )
    return tuple(prefixes)
