# SPDX-License-Identifier: Apache-2.0
"""What a machine may announce to its switches; whatever else it announces is dropped there.

A switch asks every ten seconds for the filters of all its machines, and a project may have
thousands of addresses, so prefixes are handled as ranges of numbers: those of a project are merged
once, and each of its machines adds a few.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network

from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.switch import BGPFilter

FIREWALL_VRF = "default"
IPV4_BITS = 32

# Bits of the family, the first and the last address: in order, apart from each other.
Range = tuple[int, int, int]


def ranges_of(prefixes: Iterable[str]) -> tuple[Range, ...]:
    """The addresses of prefixes (an address alone is one, too), merged."""
    networks = (ip_network(each) for each in prefixes)
    return merged(
        (each.max_prefixlen, int(each.network_address), int(each.broadcast_address))
        for each in networks
    )


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same addresses in as few ranges as possible."""
    found: list[Range] = []
    for bits, first, last in sorted(ranges):
        if found and found[-1][0] == bits and first <= found[-1][2] + 1:
            found[-1] = (bits, found[-1][1], max(last, found[-1][2]))
        else:
            found.append((bits, first, last))
    return tuple(found)


def prefixes_of(ranges: Iterable[Range]) -> tuple[str, ...]:
    """The fewest prefixes that hold the same addresses, IPv4 first, each family in order."""
    return tuple(prefix for each in ranges for prefix in _cut(each))


@lru_cache(maxsize=16_384)  # the same ones every ten seconds, and rendering is most of the work
def _cut(addresses: Range) -> tuple[str, ...]:
    """The fewest prefixes that a range is made of."""
    bits, at, last = addresses
    found: list[str] = []
    while at <= last:
        # As much as begins here: bound by the alignment, and by what is left.
        aligned = (at & -at).bit_length() - 1 if at else bits
        host_bits = min(aligned, (last - at + 1).bit_length() - 1)
        address = IPv4Address(at) if bits == IPV4_BITS else IPv6Address(at)
        found.append(f"{address}/{bits - host_bits}")
        at += 1 << host_bits
    return tuple(found)


def smallest_cover(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The fewest prefixes that hold the same addresses as these."""
    return prefixes_of(ranges_of(prefixes))


def firewall_filter(networks: Sequence[MachineNetwork]) -> BGPFilter:
    """A firewall announces its underlay addresses, and the VNIs of all its other networks."""
    return BGPFilter(
        cidrs=smallest_cover(ip for each in networks if each.underlay for ip in each.ips),
        vnis=tuple(
            str(vrf)
            for vrf in sorted({each.vrf for each in networks if not each.underlay and each.vrf})
        ),
    )


def machine_filter(
    networks: Sequence[MachineNetwork], *, announcable: Iterable[str], project: Sequence[Range]
) -> BGPFilter:
    """A machine announces its private network, what the super network allows, its project's IPs.

    Args:
        announcable: Additional prefixes that the parent of its private network allows.
        project: All addresses of the project but those in underlays.
    """
    private = (prefix for each in networks if each.primary for prefix in each.prefixes)
    own = ranges_of([*announcable, *private])
    return BGPFilter(cidrs=prefixes_of(merged([*own, *project])), vnis=())
