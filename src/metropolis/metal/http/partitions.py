# SPDX-License-Identifier: Apache-2.0
"""Partitions, over REST."""

from typing import Any, Final

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.http.urls import check_urls
from metropolis.metal.model.partition import (
    PARTITIONS,
    BootConfiguration,
    PartitionCapacity,
    PartitionCapacityRequest,
    PartitionCreateRequest,
    PartitionResponse,
    PartitionUpdateRequest,
)
from metropolis.metal.services import partitions
from metropolis.metal.services.capacity import count_capacity


async def _list(call: Call[Nothing, Nothing]) -> list[PartitionResponse]:
    found = await call.site.store.read(lambda reader: reader.find(PARTITIONS))
    return [PartitionResponse.of(partition) for partition in found]


async def _get(call: Call[Nothing, Nothing]) -> PartitionResponse:
    return PartitionResponse.of(
        await call.site.store.read(lambda reader: reader.get(PARTITIONS, call.path["id"]))
    )


async def _create(call: Call[PartitionCreateRequest, Nothing]) -> PartitionResponse:
    await _check_boot(call, BootConfiguration())
    return PartitionResponse.of(
        await call.site.store.write(lambda tx: partitions.create_partition(tx, call.body))
    )


async def _update(call: Call[PartitionUpdateRequest, Nothing]) -> PartitionResponse:
    before = await call.site.store.read(lambda reader: reader.get(PARTITIONS, call.body.id))
    await _check_boot(call, before.value.boot)
    return PartitionResponse.of(
        await call.site.store.write(lambda tx: partitions.update_partition(tx, call.body))
    )


async def _check_boot(
    call: Call[PartitionCreateRequest, Nothing] | Call[PartitionUpdateRequest, Nothing],
    before: BootConfiguration,
) -> None:
    """Judge the URLs that change."""
    boot = call.body.boot
    if boot is None:
        return
    pairs = {
        "bootconfig.imageurl": (boot.image_url, before.image_url),
        "bootconfig.kernelurl": (boot.kernel_url, before.kernel_url),
    }
    await check_urls(call.site, {name: new for name, (new, old) in pairs.items() if new != old})


async def _delete(call: Call[Nothing, Nothing]) -> PartitionResponse:
    return PartitionResponse.of(
        await call.site.store.write(lambda tx: partitions.delete_partition(tx, call.path["id"]))
    )


async def _capacity(call: Call[PartitionCapacityRequest, Nothing]) -> list[PartitionCapacity]:
    return await count_capacity(call.site.store, call.body, now=call.site.clock.wall())


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listPartitions",
        method="GET",
        path="/v1/partition",
        role=Role.ANY,
        summary="List all partitions.",
        handle=_list,
        answer=list[PartitionResponse],
        depends_on=(PARTITIONS,),
        tag="partition",
    ),
    Operation(
        id="createPartition",
        method="PUT",
        path="/v1/partition",
        role=Role.ADMIN,
        summary="Create a partition; its URLs must answer.",
        handle=_create,
        body=PartitionCreateRequest,
        answer=PartitionResponse,
        status=201,
        errors=(409,),
        tag="partition",
    ),
    Operation(
        id="updatePartition",
        method="POST",
        path="/v1/partition",
        role=Role.ADMIN,
        summary="Change a partition; new URLs must answer.",
        handle=_update,
        body=PartitionUpdateRequest,
        answer=PartitionResponse,
        errors=(409,),
        tag="partition",
    ),
    Operation(
        id="partitionCapacity",
        method="POST",
        path="/v1/partition/capacity",
        role=Role.ANY,
        summary="Count machines by partition and size: free, allocated, faulty, reserved.",
        handle=_capacity,
        body=PartitionCapacityRequest,
        answer=list[PartitionCapacity],
        audited=False,
        tag="partition",
    ),
    Operation(
        id="findPartition",
        method="GET",
        path="/v1/partition/{id}",
        role=Role.ANY,
        summary="Return a partition.",
        handle=_get,
        answer=PartitionResponse,
        depends_on=(PARTITIONS,),
        tag="partition",
    ),
    Operation(
        id="deletePartition",
        method="DELETE",
        path="/v1/partition/{id}",
        role=Role.ADMIN,
        summary="Delete a partition in which there is nothing.",
        handle=_delete,
        answer=PartitionResponse,
        tag="partition",
    ),
)
