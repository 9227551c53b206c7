# SPDX-License-Identifier: Apache-2.0
"""What should never be is found when it is: each book is made to disagree by hand."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from metropolis.metal.ipam.addresses import acquire_address, release_address
from metropolis.metal.ipam.pools import (
    ASN,
    VRF,
    acquire_integer,
    release_asn,
    release_integer,
)
from metropolis.metal.ipam.prefixes import create_prefix
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.services.machines import change
from metropolis.metal.store import Transaction
from unit.metal.fabric.world import world

BOTH = {"leaf01": "Ethernet0", "leaf02": "Ethernet0"}


async def extra_prefix(tx: Transaction) -> None:
    await create_prefix(tx, "10.77.0.0/16")


async def missing_prefix(tx: Transaction) -> None:
    network = await tx.get(NETWORKS, "internet")
    more = (*network.value.prefixes, "10.77.0.0/16")
    await tx.replace(network, msgspec.structs.replace(network.value, prefixes=more))


async def extra_address(tx: Transaction) -> None:
    await acquire_address(tx, "198.51.100.0/24", "198.51.100.77")


async def missing_address(tx: Transaction) -> None:
    await release_address(tx, "198.51.100.0/24", "198.51.100.9")


async def forgotten_address(tx: Transaction) -> None:
    await tx.delete(await tx.get(IPS, "198.51.100.9"))


async def untied_address(tx: Transaction) -> None:
    for ip in await tx.find(IPS, {"tag": "machine.metal-stack.io/id=m1"}, limit=1):
        await tx.replace(ip, msgspec.structs.replace(ip.value, tags=()))


async def tied_address(tx: Transaction) -> None:
    ip = await tx.get(IPS, "198.51.100.9")
    tags = ("machine.metal-stack.io/id=m2",)
    await tx.replace(ip, msgspec.structs.replace(ip.value, tags=tags))


async def extra_vrf(tx: Transaction) -> None:
    await acquire_integer(tx, VRF, 104009, shared=True)


async def missing_vrf(tx: Transaction) -> None:
    await release_integer(tx, VRF, 104009)


async def extra_asn(tx: Transaction) -> None:
    await acquire_integer(tx, ASN)


async def missing_asn(tx: Transaction) -> None:
    await release_asn(tx, 4210000001)


async def forgotten_allocation(tx: Transaction) -> None:
    await change(tx, await tx.get(MACHINES, "m1"), allocation=None)


async def forgotten_machine(tx: Transaction) -> None:
    await tx.delete(await tx.get(MACHINES, "m2"))


BROKEN: list[tuple[Callable[[Transaction], Awaitable[None]], list[str]]] = [
    (extra_prefix, ["prefix 10.77.0.0/16"]),
    (missing_prefix, ["prefix 10.77.0.0/16"]),
    (extra_address, ["address 198.51.100.77"]),
    (missing_address, ["address 198.51.100.9"]),
    (forgotten_address, ["address 198.51.100.9"]),
    (untied_address, ["address 10.0.0.1"]),
    (tied_address, ["address 198.51.100.9"]),
    (extra_vrf, ["vrf 104009"]),
    (missing_vrf, ["vrf 104009"]),
    (extra_asn, ["asn 4210000002"]),
    (missing_asn, ["asn 4210000001"]),
    (
        forgotten_allocation,
        ["address 10.0.0.1", "address 2001:db8::1", "asn 4210000001"],
    ),
    (forgotten_machine, ["connection leaf01 Ethernet0", "connection leaf02 Ethernet0"]),
]


@pytest.mark.parametrize(("break_it", "found"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_what_disagrees_is_found_and_said(
    break_it: Callable[[Transaction], Awaitable[None]], found: list[str]
) -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            child = (await made.child())["id"]
            await made.add_machine("m1", {})
            await made.add_machine("m2", BOTH)
            await made.allocate("m1", [child])
            body = {"projectid": "red", "networkid": "internet", "type": "static"}
            await made.ok("POST", "/v1/ip/allocate/198.51.100.9", body, 201)
            assert await made.leaks() == []
            await made.store.write(break_it)
            leaks = await made.leaks()
            assert [f"{each.what} {each.id}" for each in leaks] == found
            assert all(each.reason and each.remedy for each in leaks)

    asyncio.run(scenario())
