# SPDX-License-Identifier: Apache-2.0
"""Partitions: create, change, delete."""

from typing import Any

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.partition import (
    PARTITIONS,
    BootConfiguration,
    BootConfigurationRequest,
    Partition,
    PartitionCreateRequest,
    PartitionUpdateRequest,
)
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.switch import SWITCHES
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.partitions import validate
from metropolis.metal.store import Kind, Stored, Transaction

# What may refer to a partition, and how that is called.
_REFERRING: tuple[tuple[Kind[Any], str], ...] = (
    (MACHINES, "machines"),
    (SWITCHES, "switches"),
    (NETWORKS, "networks"),
    (RESERVATIONS, "size reservations"),
)


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
