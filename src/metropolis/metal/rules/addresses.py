# SPDX-License-Identifier: Apache-2.0
"""Addresses, prefixes and their families, as a client writes them."""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Literal

from metropolis.base.errors import InvalidArgumentError

AddressFamily = Literal["IPv4", "IPv6"]
FAMILIES: tuple[AddressFamily, ...] = ("IPv4", "IPv6")
Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def parse_prefix(text: str, *, field: str) -> Prefix:
    """Read a CIDR; bits beyond its length are dropped, as the address books do.

    Raises:
        InvalidArgumentError: it is none, naming the field.
    """
    try:
        if "/" not in text or "%" in text:
            raise ValueError(text)
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidArgumentError(
            f"{field}: {text[:80]!r} is not a prefix",
            remedy="Write an address and a length, such as 10.0.0.0/14 or 2001:db8::/48.",
        ) from None


def parse_prefixes(texts: Iterable[str], *, field: str) -> tuple[str, ...]:
    """Read several CIDRs, keeping their order and each of them once."""
    return tuple(dict.fromkeys(str(parse_prefix(text, field=field)) for text in texts))


def parse_address(text: str, *, field: str) -> Address:
    """Read an address.

    Raises:
        InvalidArgumentError: it is none, naming the field.
    """
    try:
        if "%" in text:
            raise ValueError(text)
        return ip_address(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{field}: {text[:80]!r} is not an IP address",
            remedy="Write a single address, such as 10.0.16.2 or 2001:db8::2.",
        ) from None


def parse_family(text: str, *, field: str) -> AddressFamily:
    """Read the name of an address family in whatever case.

    Raises:
        InvalidArgumentError: there is no such family, naming the field.
    """
    for family in FAMILIES:
        if text.lower() == family.lower():
            return family
    raise InvalidArgumentError(
        f"{field}: {text[:80]!r} is not an address family", remedy="Use IPv4 or IPv6."
    )


def family_of(value: str | Prefix | Address) -> AddressFamily:
    """The family of an address or prefix that is known to be one."""
    known = ip_network(value, strict=False) if isinstance(value, str) else value
    return "IPv4" if known.version == 4 else "IPv6"  # noqa: PLR2004  # its name


def families_of(prefixes: Iterable[str]) -> tuple[AddressFamily, ...]:
    """The families that occur in prefixes, IPv4 first."""
    found = {family_of(each) for each in prefixes}
    return tuple(family for family in FAMILIES if family in found)


def contains(prefix: str, address: str) -> bool:
    """Whether an address lies in a prefix; of different families never."""
    return ip_address(address) in ip_network(prefix)


def overlaps(one: str, other: str) -> bool:
    """Whether two prefixes share an address; of different families never."""
    return ip_network(one).overlaps(ip_network(other))
