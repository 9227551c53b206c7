# SPDX-License-Identifier: Apache-2.0
"""Launched clusters of real nodes for tests: in directories of their own, gone afterwards."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.ctl.contexts import Context
from metropolis.lab.cluster import LabCluster
from metropolis.lab.faults import Faults
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory

NAME = "lab"
LAUNCH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Launched:
    """A cluster whose nodes were all HEALTHY at the beginning."""

    cluster: LabCluster
    contexts_root: Path

    @property
    def context(self) -> Context:
        return contexts.load(self.contexts_root, NAME)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Cluster]:
        """Talk to the cluster as its owner."""
        async with connect(self.context) as connection:
            yield connection

    async def bring_up(self) -> None:
        """Wait until every node is HEALTHY, switching machines on where that is needed."""
        for machine in await self.cluster.status():
            if machine.power == "off":
                await self.cluster.power(machine.number, "on")
        await self.launch().run()

    def launch(self) -> Launch:
        return Launch(
            cluster=self.cluster,
            contexts_root=self.contexts_root,
            progress=Progress(io.StringIO(), title="test"),
            timeout_s=LAUNCH_TIMEOUT_S,
        )

    async def node_numbers(self) -> dict[str, int]:
        """Numbers of the machines by node id."""
        async with self.connected() as connection:
            found = await nodes.list_nodes(connection.channel)
        rack = self.cluster.rack
        numbers = {rack.address(number): number for number in rack.numbers}
        return {node.id: numbers[node.status.external_address] for node in found}


@contextmanager
def launched(path: Path, *, count: int, disk_bytes: int = 0) -> Iterator[Launched]:
    """Launch a cluster; afterwards nothing of it is left.

    Args:
        disk_bytes: Size of a disk that each machine gets for itself; 0: they share ours.
    """
    cluster = LabCluster(ClusterDirectory(path / "clusters" / NAME), dies_with_us=True)
    made = Launched(cluster, path / "config")
    try:
        cluster.create(count=count, proxy_tcp_port=0)
        if disk_bytes:
            Faults(cluster).give_disks(size_bytes=disk_bytes)
        uvloop.run(made.launch().run())
        yield made
    finally:
        if disk_bytes:
            Faults(cluster).take_disks()
        asyncio.run(cluster.destroy())
    assert find_processes(cluster.directory) == []
