# SPDX-License-Identifier: Apache-2.0
"""What the lab tells its machines before they are switched on for the first time."""

from pathlib import Path
from typing import Final

from metropolis.api import common_pb2, configuration_pb2, management_pb2
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.lab.state import ClusterDirectory
from metropolis.node.parameters import DEFAULT_CLUSTER_DOMAIN
from metropolis.node.storage import PARAMETERS, RESTORE, NodeStorage

CLUSTER_DOMAIN: Final = DEFAULT_CLUSTER_DOMAIN


def bootstrap_parameters(*, owner_public_key: bytes) -> configuration_pb2.NodeParameters:
    """Tell the first node to found a cluster.

    Storage is PERMISSIVE and the TPM best effort, because a machine of the namespace driver has
    neither encryption nor a TPM to offer.
    """
    kinds = common_pb2.ClusterConfiguration
    return configuration_pb2.NodeParameters(
        cluster_bootstrap=configuration_pb2.NodeParameters.ClusterBootstrap(
            owner_public_key=owner_public_key,
            initial_cluster_configuration=kinds(
                cluster_domain=CLUSTER_DOMAIN,
                tpm_mode=kinds.TPM_MODE_BEST_EFFORT,
                storage_security_policy=kinds.STORAGE_SECURITY_POLICY_PERMISSIVE,
            ),
        )
    )


def register_parameters(
    info: management_pb2.GetClusterInfoResponse, *, ticket: bytes
) -> configuration_pb2.NodeParameters:
    """Tell every other node to register with the cluster. Holds the ticket: a secret.

    Nodes that have not reported an address yet cannot be dialled, and are left out.
    """
    dialled = [node for node in info.cluster_directory.nodes if node.addresses]
    return configuration_pb2.NodeParameters(
        cluster_register=configuration_pb2.NodeParameters.ClusterRegister(
            cluster_directory=common_pb2.ClusterDirectory(nodes=dialled),
            register_ticket=ticket,
            ca_certificate=info.ca_certificate,
        )
    )


def has_parameters(directory: ClusterDirectory, number: int) -> bool:
    """Whether a machine was told what to be."""
    return (directory.storage(number) / PARAMETERS.path).exists()


async def write_parameters(
    directory: ClusterDirectory, number: int, parameters: configuration_pb2.NodeParameters
) -> None:
    """Put parameters on a machine's disk, atomically and with mode 0600."""
    storage = NodeStorage(LinuxDirectory(directory.storage(number)))
    await storage.write(PARAMETERS, parameters.SerializeToString(deterministic=True))


async def put_restoration(directory: ClusterDirectory, number: int, prepared: Path) -> None:
    """Put on a machine's disk what `metroctl cluster restore --to` has prepared."""
    storage = NodeStorage(LinuxDirectory(directory.storage(number)))
    for place in (RESTORE, PARAMETERS):  # in this order: parameters alone found a new cluster
        await storage.write(place, (prepared / Path(place.path).name).read_bytes())
