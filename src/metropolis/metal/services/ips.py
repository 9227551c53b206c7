# SPDX-License-Identifier: Apache-2.0
"""Addresses of projects: take, change, find, free."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam.addresses import Address, acquire_address, release_address
from metropolis.metal.masterdata.model import Project
from metropolis.metal.masterdata.projects import get_project
from metropolis.metal.model.ip import (
    IP,
    IPS,
    IPAllocateRequest,
    IPFindRequest,
    IPResponse,
    IPType,
    IPUpdateRequest,
    machine_tag,
    machines_of,
)
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS, Network
from metropolis.metal.rules.addresses import (
    AddressFamily,
    contains,
    families_of,
    family_of,
    parse_address,
    parse_family,
    parse_prefix,
)
from metropolis.metal.store import Reader, Scalar, Stored, Transaction

_ALLOCATIONS = uuid.UUID("3a3ab7c5-6a0d-5c5e-9a51-2f4f3e2d5d33")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressWish:
    """An address that somebody who may have it wants.

    Attributes:
        address: A certain one, in its shortest form; None: any.
        family: None: IPv4, or the only one that the network has.
        tags: Unique and sorted.
    """

    network_id: str
    project_id: str
    address: str | None = None
    family: AddressFamily | None = None
    name: str = ""
    description: str = ""
    type: IPType = "ephemeral"
    tags: Sequence[str] = ()


async def take_address(tx: Transaction, wish: AddressWish) -> Stored[IP]:
    """Take an address of a network; whether the project may is judged before.

    Raises:
        NotFoundError: there is no such network.
        InvalidArgumentError: the network has no such family.
        FailedPreconditionError: the address lies in no prefix of the network.
        AlreadyExistsError: the address is taken.
        ResourceExhaustedError: none is left.
    """
    network = await tx.get(NETWORKS, wish.network_id)
    if wish.address is not None:
        prefix = _prefix_of(wish.address, network.value.prefixes)
        taken = await acquire_address(tx, prefix, wish.address)
    else:
        family = wish.family or default_family(network.value.prefixes)
        prefixes = [each for each in network.value.prefixes if family_of(each) == family]
        if not prefixes:
            raise InvalidArgumentError(
                f"addressfamily: network {wish.network_id} has no prefix of {family}",
                remedy=f"Use {' or '.join(families_of(network.value.prefixes))}.",
            )
        taken = await _acquire_any(tx, prefixes)
    return await tx.insert(
        IPS,
        taken.address,
        IP(
            name=wish.name,
            description=wish.description,
            # Only has to differ from other allocations of the same address, so it is derived.
            allocation_uuid=str(uuid.uuid5(_ALLOCATIONS, f"{taken.address} {tx.now.isoformat()}")),
            prefix=taken.prefix,
            project_id=wish.project_id,
            network_id=wish.network_id,
            type=wish.type,
            tags=tuple(wish.tags),
        ),
    )


async def _acquire_any(tx: Transaction, prefixes: Sequence[str]) -> Address:
    """Take any address of the first prefix that has one left."""
    for prefix in prefixes[:-1]:
        try:
            return await acquire_address(tx, prefix)
        except ResourceExhaustedError:
            continue
    return await acquire_address(tx, prefixes[-1])


def _prefix_of(address: str, prefixes: Sequence[str]) -> str:
    for prefix in prefixes:
        if contains(prefix, address):
            return prefix
    raise FailedPreconditionError(
        f"ip: {address} lies in none of the network's prefixes: {', '.join(prefixes)}",
        remedy="Choose an address of the network, or another network.",
    )


def default_family(prefixes: Sequence[str]) -> AddressFamily:
    """The family of addresses when none is asked for: IPv4, or the only one there is."""
    families = families_of(prefixes)
    return families[0] if families else "IPv4"


async def release_ip(tx: Transaction, ip: Stored[IP]) -> None:
    """Free an address, in the books, too; whether it may be is judged before."""
    await release_address(tx, ip.value.prefix, ip.id)
    await tx.delete(ip)


async def allocate_ip(
    tx: Transaction, request: IPAllocateRequest, address: str | None = None
) -> Stored[IP]:
    """Give a project an address: a certain one, or any.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
        NotFoundError: the project, the network or the machine does not exist.
        FailedPreconditionError: the network is another project's own, or the address lies outside.
        AlreadyExistsError: the address is taken.
        ResourceExhaustedError: none is left.
    """
    await _check_quota(tx, await get_project(tx, request.projectid))
    network = await tx.get(NETWORKS, request.networkid)
    _check_usable(network, request.projectid)
    family = None
    if request.addressfamily:
        family = parse_family(request.addressfamily, field="addressfamily")
        if address is not None:
            raise InvalidArgumentError(
                "addressfamily: a certain address has the family that it has",
                remedy="Leave addressfamily out, or let any address be allocated.",
            )
    tags = set(request.tags or ())
    if request.machineid:
        tags.add(machine_tag(request.machineid))
    for machine_id in machines_of(sorted(tags)):
        await _check_machine(tx, machine_id, request.projectid)
    return await take_address(
        tx,
        AddressWish(
            network_id=request.networkid,
            project_id=request.projectid,
            address=None if address is None else str(parse_address(address, field="ip")),
            family=family,
            name=request.name or "",
            description=request.description or "",
            type=request.type or "ephemeral",
            tags=sorted(tags),
        ),
    )


async def _check_quota(reader: Reader, project: Stored[Project]) -> None:
    """Refuse what a project has no quota for; what its machines acquired counts, too."""
    quota = None if project.value.quotas is None else project.value.quotas.ip
    if quota is None or quota.max is None:
        return
    used = await reader.count(IPS, {"project": project.id})
    if used >= quota.max:
        raise ResourceExhaustedError(
            f"projectid: project {project.id} has {used} addresses, and its quota is {quota.max}",
            remedy="Free an address, or let the quota be raised.",
        )


def _check_usable(network: Stored[Network], project_id: str) -> None:
    value = network.value
    if value.private_super:
        raise FailedPreconditionError(
            f"networkid: {network.id} is a super network, which has no addresses of its own",
            remedy="Allocate a network from it, and an address there.",
        )
    if value.private and not value.shared and value.project_id != project_id:
        raise FailedPreconditionError(
            f"networkid: {network.id} belongs to another project and is not shared",
            remedy="Use a network of the project, a shared or an external one.",
        )


async def _check_machine(reader: Reader, machine_id: str, project_id: str) -> None:
    machine = await reader.get(MACHINES, machine_id)
    allocation = machine.value.allocation
    if allocation is None or allocation.project_id != project_id:
        raise FailedPreconditionError(
            f"machineid, tags: machine {machine_id} is not one of project {project_id}",
            remedy="Name a machine that is allocated to the project.",
        )


async def update_ip(tx: Transaction, request: IPUpdateRequest) -> Stored[IP]:
    """Change an address; absent fields stay.

    Raises:
        InvalidArgumentError: a static address would become ephemeral.
        NotFoundError: the address is not allocated, or tied to a machine that does not exist.
        FailedPreconditionError: it would be tied to a machine that is not the project's, or taken
            from one that uses it.
    """
    address = str(parse_address(request.ipaddress, field="ipaddress"))
    old = await tx.get(IPS, address)
    if old.value.type == "static" and request.type == "ephemeral":
        raise InvalidArgumentError(
            "type: a static address cannot become ephemeral",
            remedy="Free it and allocate another one.",
        )
    tags = old.value.tags if request.tags is None else tuple(sorted(set(request.tags)))
    changed = msgspec.structs.replace(
        old.value,
        name=old.value.name if request.name is None else request.name,
        description=old.value.description if request.description is None else request.description,
        type=request.type or old.value.type,
        tags=tags,
    )
    for machine_id in changed.machine_ids:
        if machine_id not in old.value.machine_ids:
            await _check_machine(tx, machine_id, old.value.project_id)
    await _check_not_taken(
        tx, address, [each for each in old.value.machine_ids if each not in changed.machine_ids]
    )
    return await tx.replace(old, changed)


async def _check_not_taken(reader: Reader, address: str, machine_ids: Iterable[str]) -> None:
    """Refuse to untie an address from a machine that is configured to have it."""
    for machine_id in machine_ids:
        machine = await reader.lookup(MACHINES, machine_id)
        allocation = machine.value.allocation if machine is not None else None
        if allocation and any(address in network.ips for network in allocation.networks):
            raise FailedPreconditionError(
                f"tags: machine {machine_id} uses {address}",
                remedy="Keep its tag, or free the machine first.",
            )


async def free_ip(tx: Transaction, address: str) -> Stored[IP]:
    """Take an address back from its project.

    Raises:
        NotFoundError: the address is not allocated.
        InvalidArgumentError: machines use it.
    """
    ip = await tx.get(IPS, str(parse_address(address, field="ip")))
    if ip.value.scope == "machine":
        raise InvalidArgumentError(
            f"ip: {ip.id} belongs to machine {ip.value.machine_ids[0]}",
            remedy="Free the machine, or take its tag from the address first.",
        )
    await release_ip(tx, ip)
    return ip


async def find_ips(reader: Reader, query: IPFindRequest) -> list[Stored[IP]]:
    """Find addresses that have all that is asked for.

    Raises:
        InvalidArgumentError: an address, a prefix or a family is none, naming the field.
    """
    family = (
        parse_family(query.addressfamily, field="addressfamily") if query.addressfamily else None
    )
    tags = set(query.tags or ())
    if query.machineid:
        tags.add(machine_tag(query.machineid))
    prefix = (
        str(parse_prefix(query.networkprefix, field="networkprefix"))
        if query.networkprefix
        else None
    )
    if query.ipaddress:
        address = str(parse_address(query.ipaddress, field="ipaddress"))
        named = await reader.lookup(IPS, address)
        found = [] if named is None else [named]
    else:
        found = await reader.find(IPS, _where(query, prefix, tags))
    wanted: tuple[tuple[str | None, str], ...] = (
        (query.name, "name"),
        (query.projectid, "project_id"),
        (query.networkid, "network_id"),
        (query.allocationuuid, "allocation_uuid"),
        (query.type, "type"),
        (prefix, "prefix"),
        (family, "family"),
    )
    return [
        each
        for each in found
        if tags <= set(each.value.tags)
        and all(not want or getattr(each.value, name) == want for want, name in wanted)
    ]


def _where(
    query: IPFindRequest, prefix: str | None, tags: Iterable[str]
) -> Mapping[str, Scalar | Sequence[Scalar]]:
    """What the store can look up by itself."""
    pairs = (
        ("project", query.projectid),
        ("network", query.networkid),
        ("allocation", query.allocationuuid),
        ("prefix", prefix),
        ("tag", min(tags, default=None)),
    )
    return {facet: value for facet, value in pairs if value}


def ip_response(stored: Stored[IP]) -> IPResponse:
    """An address as answered."""
    ip = stored.value
    return IPResponse(
        ipaddress=stored.id,
        name=ip.name,
        description=ip.description,
        created=stored.created,
        changed=stored.changed,
        allocationuuid=ip.allocation_uuid,
        networkid=ip.network_id,
        projectid=ip.project_id,
        tags=ip.tags,
        type=ip.type,
    )
