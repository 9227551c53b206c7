# SPDX-License-Identifier: Apache-2.0
"""The rules as nftables' own text. Pure. Source: `man 8 nft`, RFC 4890."""

from collections.abc import Sequence
from typing import Final

from metropolis.base.ports import DEBUG_TCP_PORTS, OPEN_TCP_PORTS

TABLE: Final = "metropolis"

# Without these there is no path MTU discovery and no IPv6 at all (RFC 4890, section 4.4.1).
_ICMP: Final = ("destination-unreachable", "time-exceeded", "parameter-problem")
_ICMPV6: Final = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
_NEIGHBOURS: Final = ("nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert")
_ECHOES_PER_S: Final = 100  # enough for every monitor, too few for a flood
_ON_THIS_LINK: Final = 255  # hop limit that no router leaves untouched


def open_tcp_ports(*, is_debug: bool) -> Sequence[int]:
    """The ports that answer from outside, in order."""
    return sorted((*OPEN_TCP_PORTS, *(DEBUG_TCP_PORTS if is_debug else ())))


def rules(*, is_debug: bool) -> str:
    """Return everything that nft is to load, in one transaction.

    Args:
        is_debug: Debug images also open the debug service's port.
    """
    ports = ", ".join(map(str, open_tcp_ports(is_debug=is_debug)))
    return f"""\
table inet {TABLE} {{}}
delete table inet {TABLE}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iif lo accept
    icmp type {{ {", ".join(_ICMP)} }} accept
    icmp type echo-request limit rate {_ECHOES_PER_S}/second accept
    icmpv6 type {{ {", ".join(_ICMPV6)} }} accept
    icmpv6 type echo-request limit rate {_ECHOES_PER_S}/second accept
    icmpv6 type mld-listener-query accept
    ip6 hoplimit {_ON_THIS_LINK} icmpv6 type {{ {", ".join(_NEIGHBOURS)} }} accept
    tcp dport {{ {ports} }} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
  }}
}}
"""
