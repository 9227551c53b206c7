# SPDX-License-Identifier: Apache-2.0
"""Whether the books agree: what is taken, and who says that it has it.

Everything is taken and given back in the transaction that writes for whom, so there should never
be anything to find. This is how tests, and a job of the administrators, know.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from metropolis.metal.ipam.addresses import list_addresses
from metropolis.metal.ipam.pools import ASN, ASN_BASE, VRF, list_integers
from metropolis.metal.ipam.prefixes import list_prefixes
from metropolis.metal.model.ip import IP, IPS
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.network import NETWORKS, Network
from metropolis.metal.model.switch import SWITCHES
from metropolis.metal.store import Reader, Stored


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Leak:
    """Something that is taken by nobody, or had by somebody who did not take it.

    Attributes:
        what: Which book disagrees.
        id: Of the address, prefix, number, or switch.
        reason: Who says what, in a sentence.
        remedy: What an administrator does about it.
    """

    what: Literal["address", "prefix", "vrf", "asn", "connection"]
    id: str
    reason: str
    remedy: str


async def find_leaks(reader: Reader) -> list[Leak]:
    """Compare all books with all networks, addresses, machines and switches, in one view."""
    networks = await reader.find(NETWORKS)
    ips = await reader.find(IPS)
    machines = {each.id: each.value for each in await reader.find(MACHINES)}
    found = [
        *await _prefixes(reader, networks),
        *await _addresses(reader, networks, ips),
        *await _numbers(reader, networks, machines),
        *_users(ips, machines),
        *await _connections(reader, machines),
    ]
    return sorted(found)


async def _prefixes(reader: Reader, networks: Iterable[Stored[Network]]) -> list[Leak]:
    booked = {each.cidr for each in await list_prefixes(reader)}
    used = {prefix: each.id for each in networks for prefix in each.value.prefixes}
    return [
        Leak(
            what="prefix",
            id=prefix,
            reason="it is in the address books, and no network has it",
            remedy="Delete the prefix from the address books.",
        )
        for prefix in booked - used.keys()
    ] + [
        Leak(
            what="prefix",
            id=prefix,
            reason=f"network {used[prefix]} has it, and it is not in the address books",
            remedy="Delete the network and create it again.",
        )
        for prefix in used.keys() - booked
    ]


async def _addresses(
    reader: Reader, networks: Iterable[Stored[Network]], ips: Iterable[Stored[IP]]
) -> list[Leak]:
    booked: set[tuple[str, str]] = set()
    for network in networks:
        for prefix in network.value.prefixes:
            booked |= {(prefix, each.address) for each in await list_addresses(reader, prefix)}
    held = {(each.value.prefix, each.id) for each in ips}
    return [
        Leak(
            what="address",
            id=address,
            reason=f"it is taken in prefix {prefix}, and no project has it",
            remedy="Release the address in the address books.",
        )
        for prefix, address in booked - held
    ] + [
        Leak(
            what="address",
            id=address,
            reason=f"a project has it, and it is not taken in prefix {prefix}",
            remedy="Acquire the address in the address books before somebody else does.",
        )
        for prefix, address in held - booked
    ]


async def _numbers(
    reader: Reader, networks: Iterable[Stored[Network]], machines: Mapping[str, Machine]
) -> list[Leak]:
    """VRFs have as many holders as networks name them, AS numbers one machine each."""
    vrfs = Counter(each.value.vrf for each in networks if each.value.vrf)
    asns = Counter(
        asn - ASN_BASE
        for machine in machines.values()
        for asn in {
            each.asn for each in (machine.allocation.networks if machine.allocation else ())
        }
    )
    taken_vrfs = Counter(await list_integers(reader, VRF))
    taken_asns = Counter(await list_integers(reader, ASN))
    return [
        Leak(
            what="vrf",
            id=str(number),
            reason=f"{vrfs[number]} networks have it, and it is taken {taken_vrfs[number]} times",
            remedy="Release or acquire it in the pool, or delete networks that should not have it.",
        )
        for number in vrfs.keys() | taken_vrfs.keys()
        if vrfs[number] != taken_vrfs[number]
    ] + [
        Leak(
            what="asn",
            id=str(ASN_BASE + number),
            reason=f"{asns[number]} machines have it, and it is taken {taken_asns[number]} times",
            remedy="Release or acquire it in the pool, or free machines that should not have it.",
        )
        for number in asns.keys() | taken_asns.keys()
        if asns[number] != taken_asns[number]
    ]


def _users(ips: Iterable[Stored[IP]], machines: Mapping[str, Machine]) -> list[Leak]:
    """Addresses and the machines that use them name each other."""
    tied = {(each.id, machine) for each in ips for machine in each.value.machine_ids}
    allocated = {
        machine_id: {ip for each in machine.allocation.networks for ip in each.ips}
        for machine_id, machine in machines.items()
        if machine.allocation is not None
    }
    used = {(ip, machine_id) for machine_id, mine in allocated.items() for ip in mine}
    return [
        Leak(
            what="address",
            id=address,
            reason=f"it is tied to machine {machine_id}, which is not allocated",
            remedy="Take the machine's tag from the address, then free it.",
        )
        for address, machine_id in tied
        if machine_id not in allocated
    ] + [
        Leak(
            what="address",
            id=address,
            reason=f"machine {machine_id} uses it, and it is not tied to the machine",
            remedy="Add the machine's tag to the address, or free the machine.",
        )
        for address, machine_id in used - tied
    ]


async def _connections(reader: Reader, machines: Mapping[str, Machine]) -> list[Leak]:
    return [
        Leak(
            what="connection",
            id=f"{switch.id} {each.port}",
            reason=f"it is said to lead to machine {each.machine_id}, which does not exist",
            remedy="Delete the switch with force and let it register anew.",
        )
        for switch in await reader.find(SWITCHES)
        for each in switch.value.connections
        if each.machine_id not in machines
    ]
