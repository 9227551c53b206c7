# SPDX-License-Identifier: Apache-2.0
"""What machines, networks and addresses have to do with projects."""

from collections.abc import Mapping
from typing import Any, Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.masterdata import projects
from metropolis.metal.masterdata.model import Project
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.store import Kind, Reader, Transaction

# What belongs to a project, by what people call it.
_BELONGINGS: Final[Mapping[str, Kind[Any]]] = {
    "machines": MACHINES,
    "networks": NETWORKS,
    "ips": IPS,
    "size reservations": RESERVATIONS,
}


async def count_machines(reader: Reader, project_id: str) -> int:
    """Count the machines (and firewalls) that a project has."""
    return await reader.count(MACHINES, {"project": project_id})


async def count_ips(reader: Reader, project_id: str) -> int:
    """Count the addresses that a project has."""
    return await reader.count(IPS, {"project": project_id})


async def delete_unused_project(tx: Transaction, project_id: str) -> Project:
    """Remove a project to which nothing belongs.

    Raises:
        NotFoundError: there is none.
        InvalidArgumentError: something belongs to it, naming what.
    """
    await projects.get_project(tx, project_id)
    for what, kind in _BELONGINGS.items():
        count = await tx.count(kind, {"project": project_id})
        if count:
            raise InvalidArgumentError(
                f"project {project_id} has {count} {what}",
                remedy=f"Free the {what} of the project first.",
            )
    return await projects.delete_project(tx, project_id)
