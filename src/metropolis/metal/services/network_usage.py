# SPDX-License-Identifier: Apache-2.0
"""Networks as they are answered: found, with how much of them is used."""

from collections.abc import Mapping, Sequence

from metropolis.metal.ipam.prefixes import Usage, usage
from metropolis.metal.model.network import (
    NETWORKS,
    Network,
    NetworkConsumption,
    NetworkFindRequest,
    NetworkResponse,
    NetworkUsage,
)
from metropolis.metal.rules.addresses import families_of, family_of, parse_family, parse_prefixes
from metropolis.metal.rules.networks import VRF_MAX
from metropolis.metal.store import Reader, Scalar, Stored


async def find_networks(reader: Reader, query: NetworkFindRequest) -> list[Stored[Network]]:
    """Find networks that have all that is asked for; lists and labels must be contained.

    Raises:
        InvalidArgumentError: a prefix or a family is none, naming the field.
    """
    prefixes = parse_prefixes(query.prefixes or (), field="prefixes")
    destinations = parse_prefixes(query.destinationprefixes or (), field="destinationprefixes")
    family = (
        parse_family(query.addressfamily, field="addressfamily") if query.addressfamily else None
    )
    if query.vrf is not None and not 0 <= query.vrf <= VRF_MAX:
        return []
    if query.id:
        named = await reader.lookup(NETWORKS, query.id)
        candidates = [] if named is None else [named]
    else:
        candidates = await reader.find(NETWORKS, _where(query, prefixes))
    return [
        each
        for each in candidates
        if _matches(each.value, query)
        and set(prefixes) <= set(each.value.prefixes)
        and set(destinations) <= set(each.value.destination_prefixes)
        and (family is None or family in families_of(each.value.prefixes))
    ]


def _where(
    query: NetworkFindRequest, prefixes: Sequence[str]
) -> Mapping[str, Scalar | Sequence[Scalar]]:
    """What the store can look up by itself."""
    where: dict[str, Scalar | Sequence[Scalar]] = {
        facet: value
        for facet, value in (
            ("partition", query.partitionid),
            ("project", query.projectid),
            ("parent", query.parentnetworkid),
            ("vrf", query.vrf),
            ("prefix", prefixes[0] if prefixes else None),
        )
        if value
    }
    if query.privatesuper:
        where["kind"] = ("super", "super-namespaced")
    elif query.underlay:
        where["kind"] = "underlay"
    return where


def _matches(network: Network, query: NetworkFindRequest) -> bool:
    """What both ways of finding have in common, and what is no facet."""
    wanted: tuple[tuple[object, object], ...] = (
        (query.name or None, network.name),
        (query.partitionid or None, network.partition_id),
        (query.projectid or None, network.project_id),
        (query.parentnetworkid or None, network.parent_network_id),
        (query.nat, network.nat),
        (query.privatesuper, network.private_super),
        (query.underlay, network.underlay),
        (query.vrf, network.vrf),
    )
    labels = (query.labels or {}).items()
    return labels <= network.labels.items() and all(
        want is None or want == have for want, have in wanted
    )


async def consumption(reader: Reader, network: Network) -> NetworkConsumption:
    """How much of a network is used, by family."""
    by_family: dict[str, list[Usage]] = {}
    for prefix in network.prefixes:
        by_family.setdefault(family_of(prefix), []).append(await usage(reader, prefix))
    return NetworkConsumption(ipv4=_sum(by_family.get("IPv4")), ipv6=_sum(by_family.get("IPv6")))


def _sum(usages: Sequence[Usage] | None) -> NetworkUsage | None:
    if not usages:
        return None
    return NetworkUsage(
        available_ips=sum(each.available_ips for each in usages),
        available_prefixes=sum(each.available_smallest_prefixes for each in usages),
        used_ips=sum(each.acquired_ips for each in usages),
        used_prefixes=sum(each.acquired_prefixes for each in usages),
    )


def network_response(stored: Stored[Network], used: NetworkConsumption) -> NetworkResponse:
    """A network as answered."""
    network = stored.value
    return NetworkResponse(
        id=stored.id,
        name=network.name,
        description=network.description,
        created=stored.created,
        changed=stored.changed,
        prefixes=network.prefixes,
        destinationprefixes=network.destination_prefixes,
        defaultchildprefixlength=network.child_prefix_length or None,
        partitionid=network.partition_id or None,
        projectid=network.project_id or None,
        parentnetworkid=network.parent_network_id or None,
        labels=network.labels,
        nat=network.nat,
        nattype=network.nat_kind,
        networktype=network.kind,
        privatesuper=network.private_super,
        underlay=network.underlay,
        shared=network.shared,
        vrf=network.vrf,
        vrfshared=network.vrf_shared,
        consumption=used,
        usage=used.ipv4 or NetworkUsage(),
        additional_announcable_cidrs=network.additional_announcable_cidrs or None,
    )
