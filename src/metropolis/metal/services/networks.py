# SPDX-License-Identifier: Apache-2.0
"""Networks: create, cut from another, change, delete.

Prefixes and VRF numbers are taken from the books in the transaction that writes the network, so
what fails half-way has taken nothing.
"""

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam.pools import VRF, acquire_integer, release_integer
from metropolis.metal.ipam.prefixes import acquire_child, create_prefix, delete_prefix
from metropolis.metal.masterdata.projects import get_project
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.network import (
    NETWORKS,
    Network,
    NetworkAllocateRequest,
    NetworkCreateRequest,
    NetworkUpdateRequest,
)
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.rules.addresses import AddressFamily, family_of, parse_prefix
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.machine_networks import AttachPlan
from metropolis.metal.rules.networks import (
    check_destinations,
    plan_child,
    plan_root,
    plan_update,
)
from metropolis.metal.services.machine_networks import attach_machine, detach_machine
from metropolis.metal.store import Reader, Stored, Transaction

__all__ = [
    "AttachPlan",
    "MachineNetwork",
    "allocate_network",
    "attach_machine",
    "create_network",
    "delete_network",
    "detach_machine",
    "free_network",
    "update_network",
]


async def create_network(
    tx: Transaction, network_id: str, request: NetworkCreateRequest
) -> Stored[Network]:
    """Add a network that is cut from no other.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
        NotFoundError: the partition or the project does not exist.
        AlreadyExistsError: the id or the VRF is taken.
        FailedPreconditionError: a prefix overlaps another, or the partition has such a network.
    """
    check_id("id", network_id)
    network = plan_root(request)
    if network.partition_id:
        await tx.get(PARTITIONS, network.partition_id)
    if network.project_id:
        await get_project(tx, network.project_id)
    if network.kind != "external":
        await _check_only_one(tx, network)
    if network.vrf:
        await acquire_integer(tx, VRF, network.vrf, shared=network.vrf_shared)
    for prefix in network.prefixes:
        await create_prefix(tx, prefix)
    return await tx.insert(NETWORKS, network_id, network)


async def _check_only_one(reader: Reader, network: Network) -> None:
    others = await reader.find(
        NETWORKS, {"kind": network.kind, "partition": network.partition_id}, limit=1
    )
    if others:
        raise FailedPreconditionError(
            f"partitionid: partition {network.partition_id} has network {others[0].id} of type "
            f"{network.kind}, and can have only one",
            remedy="Add prefixes to that network, or delete it first.",
        )


async def allocate_network(
    tx: Transaction, network_id: str, request: NetworkAllocateRequest
) -> Stored[Network]:
    """Cut a network for a project from the super network of a partition.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
        NotFoundError: the partition or the project does not exist.
        FailedPreconditionError: the partition has no super network.
        ResourceExhaustedError: no prefix of that length or no VRF is left.
    """
    if not request.projectid or not request.partitionid:
        field = "partitionid" if request.projectid else "projectid"
        raise InvalidArgumentError(
            f"{field}: a network is cut for a project in a partition", remedy=f"Give {field}."
        )
    await get_project(tx, request.projectid)
    await tx.get(PARTITIONS, request.partitionid)
    parents = await tx.find(NETWORKS, {"kind": "super", "partition": request.partitionid})
    if not parents:
        raise FailedPreconditionError(
            f"partitionid: partition {request.partitionid} has no private super network",
            remedy="Create a network with privatesuper in the partition first.",
        )
    parent = parents[0]
    prefixes = tuple(
        [
            await _cut(tx, parent, family, bits)
            for family, bits in plan_child(request, parent.value).items()
        ]
    )
    network = Network(
        name=request.name or "",
        description=request.description or "",
        prefixes=prefixes,
        destination_prefixes=check_destinations(request.destinationprefixes or (), prefixes),
        partition_id=request.partitionid,
        project_id=request.projectid,
        parent_network_id=parent.id,
        vrf=await acquire_integer(tx, VRF),
        labels=request.labels or {},
        kind="child-shared" if request.shared else "child",
        nat_kind="ipv4-masq" if request.nat else "none",
        shared=bool(request.shared),
    )
    return await tx.insert(NETWORKS, network_id, network)


async def _cut(tx: Transaction, parent: Stored[Network], family: AddressFamily, bits: int) -> str:
    """Cut a child out of the first prefix of a super network that has one left."""
    fitting = [
        each
        for each in parent.value.prefixes
        if family_of(each) == family and parse_prefix(each, field="prefixes").prefixlen < bits
    ]
    for prefix in fitting:
        try:
            return (await acquire_child(tx, prefix, bits)).cidr
        except ResourceExhaustedError:
            continue
    raise ResourceExhaustedError(
        f"no prefix of {bits} bits of {family} is left in super network {parent.id}",
        remedy="Free networks, ask for more bits, or add a prefix to the super network.",
    )


async def update_network(
    tx: Transaction, request: NetworkUpdateRequest, *, force: bool = False
) -> Stored[Network]:
    """Change a network; absent fields stay.

    Raises:
        NotFoundError: there is no such network.
        InvalidArgumentError: the request can never succeed, naming the field.
        FailedPreconditionError: a prefix to remove is used, one to add overlaps another, or the
            change needs `force`.
    """
    old = await tx.get(NETWORKS, request.id)
    change = plan_update(old.value, request, force=force)
    for prefix in change.removed:
        await delete_prefix(tx, prefix)
    for prefix in change.added:
        await create_prefix(tx, prefix)
    return await tx.replace(old, change.network)


async def free_network(tx: Transaction, network_id: str) -> Stored[Network]:
    """Give a network back that a project had cut for itself.

    Raises:
        NotFoundError: there is no such network.
        FailedPreconditionError: it was not cut from another, or has addresses.
    """
    network = await tx.get(NETWORKS, network_id)
    if not network.value.private:
        raise FailedPreconditionError(
            f"network {network_id} was not cut from a super network",
            remedy="Only administrators delete it (DELETE /v1/network/<id>).",
        )
    return await _remove(tx, network)


async def delete_network(tx: Transaction, network_id: str) -> Stored[Network]:
    """Remove a network of any kind.

    Raises:
        NotFoundError: there is no such network.
        FailedPreconditionError: it has addresses or children.
    """
    return await _remove(tx, await tx.get(NETWORKS, network_id))


async def _remove(tx: Transaction, network: Stored[Network]) -> Stored[Network]:
    children = await tx.find(NETWORKS, {"parent": network.id}, limit=1)
    if children:
        raise FailedPreconditionError(
            f"network {network.id} has children, such as {children[0].id}",
            remedy="Free its children first.",
        )
    ips = await tx.find(IPS, {"network": network.id}, limit=1)
    if ips:
        raise FailedPreconditionError(
            f"network {network.id} has addresses, such as {ips[0].id}",
            remedy="Free its addresses, and the machines that use them, first.",
        )
    machines = await tx.find(MACHINES, {"network": network.id}, limit=1)
    if machines:
        raise FailedPreconditionError(
            f"network {network.id} has machines, such as {machines[0].id}",
            remedy="Free its machines first.",
        )
    for prefix in network.value.prefixes:
        await delete_prefix(tx, prefix)
    if network.value.vrf:
        await release_integer(tx, VRF, network.value.vrf)
    await tx.delete(network)
    return network
