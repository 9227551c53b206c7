# SPDX-License-Identifier: Apache-2.0
"""How many machines of each size a partition has, and what they are doing.

All machines are looked at, so they are read in pages and others get their turn in between. What is
counted may change meanwhile; each machine is counted once, as it was when its page was read.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import msgspec

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.counted import COUNTED_MACHINES, CountedMachine
from metropolis.metal.model.event import EVENTS, EventContainer
from metropolis.metal.model.ipmi import IPMIS, Ipmi
from metropolis.metal.model.partition import (
    PARTITIONS,
    Partition,
    PartitionCapacity,
    PartitionCapacityRequest,
)
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.rules.capacity import Server, capacity
from metropolis.metal.rules.issues import Subject, issues_of
from metropolis.metal.store import Kind, Reader, Scalar, Store, Stored

PAGE: Final = 500  # entities that are read at once: nobody else runs meanwhile
_HARMLESS: Final = frozenset({"last-event-error"})  # an error that is over makes none faulty

EntityT = TypeVar("EntityT", bound=msgspec.Struct)
_Where = Mapping[str, Scalar | Sequence[Scalar]]


async def count_capacity(
    store: Store, request: PartitionCapacityRequest, *, now: datetime
) -> list[PartitionCapacity]:
    """Count machines by partition and size.

    Machines that were never heard of, or are in no known partition, are not counted.

    Raises:
        InvalidArgumentError: there is no such partition.
    """
    partitions = await store.read(partial(_partitions, partition_id=request.id))
    where: dict[str, Scalar] = {}
    if request.id:
        where["partition"] = request.id
    if request.size_id:
        where["size"] = request.size_id
    servers = await _servers(store, where, now)
    reservations = [each.value async for each in _all(store, RESERVATIONS, where)]
    return [
        PartitionCapacity(
            id=partition.id,
            name=partition.value.name,
            description=partition.value.description,
            servers=capacity(
                servers.get(partition.id, ()),
                (each for each in reservations if partition.id in each.partition_ids),
                project_id=request.project_id or "",
            ),
        )
        for partition in partitions
    ]


async def _partitions(reader: Reader, *, partition_id: str | None) -> list[Stored[Partition]]:
    if not partition_id:
        return await reader.find(PARTITIONS)
    partition = await reader.lookup(PARTITIONS, partition_id)
    if partition is None:
        raise InvalidArgumentError(
            f"id: there is no partition {partition_id!r}", remedy="Name one that exists."
        )
    return [partition]


async def _all(
    store: Store, kind: Kind[EntityT], where: _Where | None = None
) -> AsyncIterator[Stored[EntityT]]:
    """Read entities by the page."""
    after: str | None = None

    async def page(reader: Reader) -> list[Stored[EntityT]]:
        return await reader.find(kind, where, after=after, limit=PAGE)

    while True:
        found = await store.read(page)
        for each in found:
            yield each
        if len(found) < PAGE:
            return
        after = found[-1].id
        await asyncio.sleep(0)


async def _servers(store: Store, where: _Where, now: datetime) -> dict[str, list[Server]]:
    """Return machines by partition, with what is known of each."""
    events: dict[str, EventContainer] = {}
    async for container in _all(store, EVENTS):
        events[container.id] = container.value
    ipmis: dict[str, Ipmi] = {}
    async for ipmi in _all(store, IPMIS):
        ipmis[ipmi.id] = ipmi.value
    asns: Counter[int] = Counter()
    async for firewall in _all(store, COUNTED_MACHINES, {"role": "firewall"}):
        asns.update(_asns(firewall.value))
    addresses = Counter(ipmi.address for ipmi in ipmis.values())
    servers: dict[str, list[Server]] = {}
    async for machine in _all(store, COUNTED_MACHINES, where):
        known = events.get(machine.id)
        if known is None:
            continue
        subject = Subject(
            machine=machine.value,
            events=known,
            ipmi=ipmis.get(machine.id),
            now=now,
            asn_users=asns,
            address_users=addresses,
        )
        faulty = any(issue.id not in _HARMLESS for issue in issues_of(subject))
        servers.setdefault(machine.value.partition_id, []).append(
            Server(machine=machine.value, events=known, faulty=faulty)
        )
    return servers


def _asns(machine: CountedMachine) -> set[int]:
    allocation = machine.allocation
    return set() if allocation is None else {item.asn for item in allocation.networks if item.asn}
