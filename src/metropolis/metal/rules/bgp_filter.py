# SPDX-License-Identifier: Apache-2.0
"""What a machine may announce to its switches; whatever else it announces is dropped there."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.switch import BGPFilter
from metropolis.metal.rules.addresses import host_route

FIREWALL_VRF = "default"


def smallest_cover(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The fewest prefixes that hold the same addresses, IPv4 first, each family in order."""
    networks = [ip_network(each) for each in prefixes]
    four = [each for each in networks if isinstance(each, IPv4Network)]
    six = [each for each in networks if isinstance(each, IPv6Network)]
    return tuple(str(each) for each in (*collapse_addresses(four), *collapse_addresses(six)))


def firewall_filter(networks: Sequence[MachineNetwork]) -> BGPFilter:
    """A firewall announces its underlay addresses, and the VNIs of all its other networks."""
    underlays = [each for each in networks if each.underlay]
    return BGPFilter(
        cidrs=smallest_cover(host_route(ip) for each in underlays for ip in each.ips),
        vnis=tuple(
            str(vrf)
            for vrf in sorted({each.vrf for each in networks if not each.underlay and each.vrf})
        ),
    )


def machine_filter(
    networks: Sequence[MachineNetwork],
    *,
    announcable: Iterable[str],
    project_ips: Iterable[tuple[str, str]],
    underlays: Iterable[str],
) -> BGPFilter:
    """A machine announces its private network, what the super network allows, its project's IPs.

    Args:
        announcable: Additional prefixes that the parent of its private network allows.
        project_ips: Address and network id of all addresses of the project.
        underlays: Ids of underlay networks, whose addresses no machine announces.
    """
    primary = [each for each in networks if each.primary]
    cidrs = [*announcable, *(cidr for each in primary for cidr in each.prefixes)]
    passed_over = {*underlays, *(each.network_id for each in primary)}
    cidrs += [host_route(ip) for ip, network in project_ips if network not in passed_over]
    return BGPFilter(cidrs=smallest_cover(cidrs), vnis=())
