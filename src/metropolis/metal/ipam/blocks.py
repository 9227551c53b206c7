# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of prefixes, without a store."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from metropolis.base.errors import InvalidArgumentError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Counts of addresses and of prefixes are never reported greater, so that 32-bit clients can read
# them.
COUNT_MAX = 2**31 - 1

# The smallest prefix that is worth cutting: /30 and /126.
SMALLEST_HOST_BITS = 2

_CIDR = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Block:
    """A free block of a parent: its first address as a number, and its length in bits."""

    first: int
    bits: int


@lru_cache(maxsize=4096)
def parse_cidr(text: str) -> Network:
    """Read a prefix, with whatever host bits it has cut off.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not _CIDR.fullmatch(text):
        raise _no_cidr(text)
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as cause:
        raise _no_cidr(text) from cause


def _no_cidr(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"cidr {text[:64]!r} is no prefix",
        remedy="Write an address and a length, like 10.0.0.0/8 or 2001:db8::/32.",
    )


def parse_address(text: str) -> IpAddress:
    """Read an address.

    Raises:
        InvalidArgumentError: it is none, or one with a zone.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError as cause:
        raise _no_address(text) from cause
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise _no_address(text)
    return address


def _no_address(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"ip {text[:64]!r} is no address",
        remedy="Write an IPv4 or IPv6 address, like 10.0.0.1 or 2001:db8::1.",
    )


def pack(network: Network, number: int) -> bytes:
    """Render an address of the family of `network` as the books keep it."""
    return number.to_bytes(network.max_prefixlen // 8)


def pack_mark(number: int) -> bytes:
    """Render a mark, which may lie behind the last address of all."""
    return number.to_bytes(17)


def network_of(network: Network, block: Block) -> Network:
    """Return a block inside `network` as a prefix."""
    return type(network)((block.first, block.bits))


def block_of(network: Network) -> Block:
    """Return a whole prefix as a block."""
    return Block(first=int(network.network_address), bits=network.prefixlen)


def usable(network: Network) -> range:
    """Return the numbers of the addresses that may be handed out."""
    first = int(network.network_address)
    last = int(network.broadcast_address)
    return range(first + 1, last if network.version == 4 else last + 1)  # noqa: PLR2004  # of IP


def reserved(network: Network) -> int:
    """Count the addresses that are never handed out."""
    return network.num_addresses - len_of(usable(network))


def len_of(numbers: range) -> int:
    """Count a range; `len` refuses those beyond 63 bits."""
    return max(0, numbers.stop - numbers.start)


def buddy(network: Network, block: Block) -> Block:
    """Return the other half of the block of which this is a half."""
    return Block(first=block.first ^ (1 << (network.max_prefixlen - block.bits)), bits=block.bits)


def whole(network: Network, block: Block) -> Block:
    """Return the block of which this is a half."""
    size = 1 << (network.max_prefixlen - block.bits)
    return Block(first=block.first & ~size, bits=block.bits - 1)


def cut(network: Network, block: Block, child: Block) -> Iterator[Block]:
    """Yield what of a block stays free when `child` is cut out of it, the smallest first."""
    while child.bits > block.bits:
        yield buddy(network, child)
        child = whole(network, child)


def count_smallest(network: Network, free: Iterable[Block]) -> int:
    """Count the smallest prefixes that would fit into free blocks."""
    bits = network.max_prefixlen - SMALLEST_HOST_BITS
    count = sum(1 << (bits - block.bits) for block in free if block.bits <= bits)
    return min(count, COUNT_MAX)
