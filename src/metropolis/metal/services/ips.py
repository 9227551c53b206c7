# SPDX-License-Identifier: Apache-2.0
"""Addresses of projects: take, change, find, free."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam.addresses import Address, acquire_address, release_address
from metropolis.metal.model.ip import IP, IPS, IPType
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.rules.addresses import AddressFamily, contains, families_of, family_of
from metropolis.metal.store import Stored, Transaction

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
