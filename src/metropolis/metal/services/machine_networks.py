# SPDX-License-Identifier: Apache-2.0
"""Machines in networks: what an allocation takes of addresses and numbers, and gives back."""

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.ipam.pools import ASN_BASE, acquire_asn, release_asn
from metropolis.metal.model.ip import IP, IPS, machine_tag
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.network import NETWORKS, Network
from metropolis.metal.rules.machine_networks import (
    AttachPlan,
    Fabric,
    NetworkUse,
    check_bounds,
    plan_networks,
)
from metropolis.metal.services.ips import AddressWish, release_ip, take_address
from metropolis.metal.store import Reader, Stored, Transaction


async def attach_machine(tx: Transaction, plan: AttachPlan) -> tuple[MachineNetwork, ...]:
    """Give a machine its networks, the addresses it needs there, and an AS number.

    Raises:
        InvalidArgumentError: the request can never succeed.
        NotFoundError: it names a network or an address that does not exist.
        FailedPreconditionError: a network or an address is not one that this machine may have.
        ResourceExhaustedError: no address or no number is left.
    """
    check_bounds(plan)
    fabric = await _fabric(tx, plan)
    uses = plan_networks(plan, fabric)
    asn = await acquire_asn(tx)
    found: list[MachineNetwork] = []
    for use in uses:
        network = fabric.networks[use.network_id]
        addresses = await _addresses(tx, plan, use)
        found.append(_as_used(use, network, addresses, asn))
    return tuple(found)


async def _fabric(reader: Reader, plan: AttachPlan) -> Fabric:
    """Read what a plan may name, and nothing else."""
    networks: dict[str, Network] = {}
    for each in plan.networks:
        named = await reader.lookup(NETWORKS, each.networkid)
        if named is not None:
            networks[each.networkid] = named.value
    underlays: list[str] = []
    if plan.role == "firewall":
        for underlay in await reader.find(
            NETWORKS, {"kind": "underlay", "partition": plan.partition_id}
        ):
            networks[underlay.id] = underlay.value
            underlays.append(underlay.id)
    ips: dict[str, IP] = {}
    for address in plan.ips:
        ip = await reader.lookup(IPS, canonical(address))
        if ip is not None:
            ips[address] = ip.value
    return Fabric(networks=networks, ips=ips, underlays=underlays)


def canonical(address: str) -> str:
    """An address as ids are written; what is none stays as it is, and is found nowhere."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


async def _addresses(tx: Transaction, plan: AttachPlan, use: NetworkUse) -> tuple[str, ...]:
    """Take what a machine uses in one network: what was named, and what it acquires."""
    tag = machine_tag(plan.machine_id)
    found: list[str] = []
    for address in use.given:
        ip = await tx.get(IPS, canonical(address))
        if tag not in ip.value.tags:
            tags = tuple(sorted({*ip.value.tags, tag}))
            await tx.replace(ip, msgspec.structs.replace(ip.value, tags=tags))
        found.append(ip.id)
    for family in use.acquired:
        taken = await take_address(
            tx,
            AddressWish(
                network_id=use.network_id,
                project_id=plan.project_id,
                family=family,
                name=plan.machine_name,
                description="autoassigned",
                type="ephemeral",
                tags=(tag,),
            ),
        )
        found.append(taken.id)
    return tuple(found)


def _as_used(
    use: NetworkUse, network: Network, addresses: Sequence[str], asn: int
) -> MachineNetwork:
    return MachineNetwork(
        network_id=use.network_id,
        prefixes=network.prefixes,
        destination_prefixes=network.destination_prefixes,
        ips=tuple(addresses),
        vrf=network.vrf,
        asn=asn,
        nat=network.nat,
        private=network.private,
        underlay=network.underlay,
        network_type=use.type,
        network_type_v2=network.kind,
        nat_type_v2=network.nat_kind,
        project_id=network.project_id,
    )


async def detach_machine(
    tx: Transaction, machine_id: str, networks: Iterable[MachineNetwork]
) -> None:
    """Take back what a machine has of addresses and numbers; nothing that is gone is missed.

    Ephemeral addresses that no other machine uses are freed, static ones stay with the project.
    Whatever carries the machine's tag is dealt with, also what its networks do not name.
    """
    tag = machine_tag(machine_id)
    for ip in await tx.find(IPS, {"tag": tag}):
        await _let_go(tx, ip, tag)
    for asn in sorted({each.asn for each in networks if each.asn > ASN_BASE}):
        await release_asn(tx, asn)


async def _let_go(tx: Transaction, ip: Stored[IP], tag: str) -> None:
    remaining = msgspec.structs.replace(
        ip.value, tags=tuple(each for each in ip.value.tags if each != tag)
    )
    if remaining.type == "ephemeral" and not remaining.machine_ids:
        await release_ip(tx, ip)
    else:
        await tx.replace(ip, remaining)


async def check_unused(reader: Reader, machine_id: str) -> None:
    """Refuse what may only be done to a machine that holds no address.

    Raises:
        FailedPreconditionError: it holds some, naming the first.
    """
    held = await reader.find(IPS, {"tag": machine_tag(machine_id)}, limit=1)
    if held:
        raise FailedPreconditionError(
            f"machine {machine_id} still uses {held[0].id}", remedy="Free the machine first."
        )
