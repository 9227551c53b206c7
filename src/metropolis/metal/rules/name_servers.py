# SPDX-License-Identifier: Apache-2.0
"""Servers of names and of time, as partitions and allocations name them."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.partition import DNSServer, NTPServer

DNS_SERVERS_MAX: Final = 3  # what resolv.conf takes
NTP_SERVERS_MAX: Final = 5
NAME_LENGTH_MAX: Final = 253
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)


def check_dns_servers(servers: Sequence[DNSServer]) -> None:
    """Judge a list of servers of names.

    Raises:
        InvalidArgumentError: there are too many, or one is not named by its address.
    """
    _check_count("dns_servers", len(servers), DNS_SERVERS_MAX)
    for server in servers:
        if not is_address(server.ip):
            raise InvalidArgumentError(
                f"dns_servers: {server.ip[:80]!r} is no IP address",
                remedy="Name DNS servers by their addresses.",
            )


def check_ntp_servers(servers: Sequence[NTPServer]) -> None:
    """Judge a list of servers of time.

    Raises:
        InvalidArgumentError: there are too many, or one is neither an address nor a name.
    """
    _check_count("ntp_servers", len(servers), NTP_SERVERS_MAX)
    for server in servers:
        if not is_address(server.address) and not is_host_name(server.address):
            raise InvalidArgumentError(
                f"ntp_servers: {server.address[:80]!r} is neither an IP address nor a host name",
                remedy="Name NTP servers by their addresses or DNS names.",
            )


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_host_name(text: str) -> bool:
    """Whether this can be a host name; what looks like numbers is a mistyped address."""
    name = text.removesuffix(".")
    return (
        0 < len(name) <= NAME_LENGTH_MAX
        and _NUMBERS.fullmatch(name) is None
        and all(_LABEL.fullmatch(label) for label in name.split("."))
    )


def _check_count(field: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidArgumentError(
            f"{field}: {count} are given, {most} are allowed", remedy=f"Name at most {most}."
        )
