# SPDX-License-Identifier: Apache-2.0
"""What the lab tells its machines before they are switched on for the first time."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from metropolis.api import common_pb2, configuration_pb2, management_pb2
from metropolis.base.names import DEFAULT_CLUSTER_DOMAIN
from metropolis.ctl import node_parameters
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.lab.model import NAMESPACE_DRIVER, QEMU_DRIVER, Rack
from metropolis.lab.qemu.arguments import DISK
from metropolis.lab.state import ClusterDirectory
from metropolis.node.storage import PARAMETERS, RESTORE, NodeStorage, Place

CLUSTER_DOMAIN: Final = DEFAULT_CLUSTER_DOMAIN


_KINDS: Final = common_pb2.ClusterConfiguration
# What machines of each driver can offer: those of namespaces neither encryption nor a TPM. Virtual
# ones could authenticate their storage, too, but an HMAC of every sector costs half of the speed
# where processors are emulated, and the first 320 MiB are overwritten at the founding.
_SECURITY: Final = {
    NAMESPACE_DRIVER: (
        _KINDS.TPM_MODE_BEST_EFFORT,
        _KINDS.STORAGE_SECURITY_POLICY_PERMISSIVE,
    ),
    QEMU_DRIVER: (
        _KINDS.TPM_MODE_REQUIRED,
        _KINDS.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION,
    ),
}


def bootstrap_parameters(
    *, owner_public_key: bytes, driver: str = NAMESPACE_DRIVER
) -> configuration_pb2.NodeParameters:
    """Tell the first node to found a cluster that is as safe as its machines can be."""
    tpm_mode, storage_policy = _SECURITY[driver]
    return configuration_pb2.NodeParameters(
        cluster_bootstrap=configuration_pb2.NodeParameters.ClusterBootstrap(
            owner_public_key=owner_public_key,
            initial_cluster_configuration=_KINDS(
                cluster_domain=CLUSTER_DOMAIN,
                tpm_mode=tpm_mode,
                storage_security_policy=storage_policy,
            ),
        )
    )


def register_parameters(
    info: management_pb2.GetClusterInfoResponse, *, ticket: bytes
) -> configuration_pb2.NodeParameters:
    """Tell every other node to register with the cluster. Holds the ticket: a secret.

    Nodes that have not reported an address yet cannot be dialled, and are left out.
    """
    return node_parameters.register_parameters(info, ticket=ticket)


def has_parameters(directory: ClusterDirectory, number: int) -> bool:
    """Whether a machine was told what to be, or can be told while it runs: it has a disk."""
    if _is_virtual(directory):
        return (directory.node(number) / DISK).exists()
    return (directory.storage(number) / PARAMETERS.path).exists()


async def write_parameters(
    directory: ClusterDirectory, number: int, parameters: configuration_pb2.NodeParameters
) -> None:
    """Put parameters on a machine's disk, atomically and with mode 0600.

    The disk of a virtual machine is made for that; it must be off.
    """
    await _put(directory, number, {PARAMETERS: parameters.SerializeToString(deterministic=True)})


async def make_disks(rack: Rack, directory: ClusterDirectory) -> None:
    """Give every virtual machine that has no disk one without parameters: it will wait for them."""
    for number in rack.numbers:
        if not has_parameters(directory, number):
            await _put(directory, number, {})


async def put_restoration(directory: ClusterDirectory, number: int, prepared: Path) -> None:
    """Put on a machine's disk what `metroctl cluster restore --to` has prepared."""
    # In this order: parameters alone found a new cluster.
    places = (RESTORE, PARAMETERS)
    await _put(
        directory,
        number,
        {place: (prepared / Path(place.path).name).read_bytes() for place in places},
    )


async def _put(directory: ClusterDirectory, number: int, files: Mapping[Place, bytes]) -> None:
    if _is_virtual(directory):
        from metropolis.lab.qemu.disks import install  # noqa: PLC0415  # only who needs it

        content = {place.path: data for place, data in files.items()}
        disk = directory.node(number) / DISK
        await asyncio.to_thread(partial(install, disk, directory.image, content))
        return
    storage = NodeStorage(LinuxDirectory(directory.storage(number)))
    for place, data in files.items():
        await storage.write(place, data)


def _is_virtual(directory: ClusterDirectory) -> bool:
    return directory.exists and directory.read().driver == QEMU_DRIVER
