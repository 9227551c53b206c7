# SPDX-License-Identifier: Apache-2.0
"""Partitions: create, change, delete, and count what is free in them."""

from collections import Counter
from datetime import datetime
from typing import Any

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.ipmi import IPMIS
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.partition import (
    PARTITIONS,
    BootConfiguration,
    BootConfigurationRequest,
    Partition,
    PartitionCapacity,
    PartitionCapacityRequest,
    PartitionCreateRequest,
    PartitionUpdateRequest,
)
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.switch import SWITCHES
from metropolis.metal.rules import capacity as rules
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.issues import Subject, issues_of
from metropolis.metal.rules.partitions import validate
from metropolis.metal.store import Kind, Reader, Scalar, Stored, Transaction

# What may refer to a partition, and how that is called.
_REFERRING: tuple[tuple[Kind[Any], str], ...] = (
    (MACHINES, "machines"),
    (SWITCHES, "switches"),
    (NETWORKS, "networks"),
    (RESERVATIONS, "size reservations"),
)
_HARMLESS = frozenset({"last-event-error"})  # an error that is over makes no machine faulty


async def create_partition(tx: Transaction, request: PartitionCreateRequest) -> Stored[Partition]:
    """Add a partition.

    Raises:
        InvalidArgumentError: it is not well-formed.
        AlreadyExistsError: there is one with this id.
    """
    partition = Partition(
        name=request.name or "",
        description=request.description or "",
        boot=_boot(BootConfiguration(), request.boot),
        management_address=request.management_address or "",
        labels=request.labels or {},
        dns_servers=request.dns_servers or (),
        ntp_servers=request.ntp_servers or (),
    )
    validate(partition)
    return await tx.insert(PARTITIONS, check_id("id", request.id), partition)


async def update_partition(tx: Transaction, request: PartitionUpdateRequest) -> Stored[Partition]:
    """Change what the request names.

    Raises:
        NotFoundError: there is no such partition.
        InvalidArgumentError: it would not be well-formed.
    """
    old = await tx.get(PARTITIONS, request.id)
    before = old.value
    partition = Partition(
        name=before.name if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
        boot=before.boot if request.boot is None else _boot(before.boot, request.boot),
        management_address=before.management_address
        if request.management_address is None
        else request.management_address,
        labels=before.labels if request.labels is None else request.labels,
        dns_servers=before.dns_servers if request.dns_servers is None else request.dns_servers,
        ntp_servers=before.ntp_servers if request.ntp_servers is None else request.ntp_servers,
    )
    validate(partition)
    return await tx.replace(old, partition)


def _boot(before: BootConfiguration, request: BootConfigurationRequest) -> BootConfiguration:
    return BootConfiguration(
        image_url=before.image_url if request.image_url is None else request.image_url,
        kernel_url=before.kernel_url if request.kernel_url is None else request.kernel_url,
        command_line=before.command_line if request.command_line is None else request.command_line,
    )


async def delete_partition(tx: Transaction, partition_id: str) -> Stored[Partition]:
    """Remove a partition in which there is nothing.

    Raises:
        NotFoundError: there is no such partition.
        FailedPreconditionError: what there is.
    """
    partition = await tx.get(PARTITIONS, partition_id)
    present: list[str] = []
    for kind, name in _REFERRING:
        count = await tx.count(kind, {"partition": partition_id})
        if count:
            present.append(f"{count} {name}")
    if present:
        raise FailedPreconditionError(
            f"partition {partition_id} is not empty: it has {', '.join(present)}",
            remedy="Delete these first.",
        )
    await tx.delete(partition)
    return partition


async def capacity(
    reader: Reader, request: PartitionCapacityRequest, *, now: datetime
) -> list[PartitionCapacity]:
    """Count machines by partition and size.

    Machines that were never heard of, or are in no known partition, are not counted.

    Raises:
        InvalidArgumentError: there is no such partition.
    """
    if request.id:
        partition = await reader.lookup(PARTITIONS, request.id)
        if partition is None:
            raise InvalidArgumentError(
                f"id: there is no partition {request.id!r}", remedy="Name one that exists."
            )
        partitions = [partition]
    else:
        partitions = await reader.find(PARTITIONS)
    where: dict[str, Scalar] = {}
    if request.id:
        where["partition"] = request.id
    if request.size_id:
        where["size"] = request.size_id
    servers = await _servers(reader, where, now)
    reservations = await reader.find(RESERVATIONS, where)
    return [
        PartitionCapacity(
            id=partition.id,
            name=partition.value.name,
            description=partition.value.description,
            servers=rules.capacity(
                servers.get(partition.id, ()),
                (item.value for item in reservations if partition.id in item.value.partition_ids),
                project_id=request.project_id or "",
            ),
        )
        for partition in partitions
    ]


async def _servers(
    reader: Reader, where: dict[str, Scalar], now: datetime
) -> dict[str, list[rules.Server]]:
    """Return machines by partition, with what is known of each."""
    machines = await reader.find(MACHINES, where)
    events = {container.id: container.value for container in await reader.find(EVENTS)}
    ipmis = {ipmi.id: ipmi.value for ipmi in await reader.find(IPMIS)}
    addresses = Counter(ipmi.address for ipmi in ipmis.values())
    asns = await _firewall_asns(reader)
    servers: dict[str, list[rules.Server]] = {}
    for machine in machines:
        container = events.get(machine.id)
        if container is None:
            continue
        subject = Subject(
            machine=machine.value,
            events=container,
            ipmi=ipmis.get(machine.id),
            now=now,
            asn_users=asns,
            address_users=addresses,
        )
        faulty = any(issue.id not in _HARMLESS for issue in issues_of(subject))
        servers.setdefault(machine.value.partition_id, []).append(
            rules.Server(machine=machine.value, events=container, faulty=faulty)
        )
    return servers


async def _firewall_asns(reader: Reader) -> Counter[int]:
    """Count how many firewalls use each AS number."""
    firewalls = await reader.find(MACHINES, {"role": "firewall"})
    return Counter(asn for firewall in firewalls for asn in _asns(firewall.value))


def _asns(machine: Machine) -> set[int]:
    allocation = machine.allocation
    return set() if allocation is None else {item.asn for item in allocation.networks if item.asn}
