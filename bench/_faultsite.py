# SPDX-License-Identifier: Apache-2.0
"""A cluster of the lab to break on purpose, and a client that writes to it all the time."""

import asyncio
import io
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab.cluster import LabCluster
from metropolis.lab.faults import Faults
from metropolis.lab.launch import Launch
from metropolis.lab.model import address_of
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory
from metropolis.pki.identity import server_verifier
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint

NODES = 3
DISK_BYTES = 512 << 20
WRITE_TIMEOUT_S = 5.0
PAUSE_S = 0.05
LABEL = "faults"
SETTLED_WRITES = 20  # after the repair, before a scenario is over


class Writer:
    """Sets one label to growing numbers, and measures how long it ever had to wait.

    Attributes:
        acknowledged: The newest number that was.
        longest_s: Between two acknowledged writes, or since the last one.
    """

    def __init__(self, connection: Cluster, target: str, first: int) -> None:
        self._connection = connection
        self._target = target
        self.acknowledged = first
        self.count = 0
        self.refused = 0
        self._last_s = time.monotonic()
        self._longest_s = 0.0

    @property
    def longest_s(self) -> float:
        return max(self._longest_s, time.monotonic() - self._last_s)

    async def run(self) -> None:
        """Write for ever."""
        number = self.acknowledged
        while True:
            number += 1
            try:
                await nodes.update_labels(
                    self._connection.channel,
                    self._target,
                    upsert={LABEL: str(number)},
                    timeout_s=WRITE_TIMEOUT_S,
                )
            except MetropolisError as error:
                if not error.retryable:
                    raise
                self.refused += 1
            else:
                now_s = time.monotonic()
                self._longest_s = max(self._longest_s, now_s - self._last_s)
                self._last_s, self.acknowledged = now_s, number
                self.count += 1
            await asyncio.sleep(PAUSE_S)

    async def wait_writes(self, more: int, *, within_s: float) -> None:
        """Wait until so many more were acknowledged."""
        wanted = self.count + more
        async with asyncio.timeout(within_s):
            while self.count < wanted:  # noqa: ASYNC110  # measured from outside
                await asyncio.sleep(0.02)


class FaultSite:
    """Three nodes, each with a disk of its own that is as large as it says: a tmpfs."""

    def __init__(self, path: Path) -> None:
        self.cluster = LabCluster(ClusterDirectory(path / "bench"), dies_with_us=True)
        self.faults = Faults(self.cluster)
        self._root = path / "config"
        self._newest = 0

    async def launch(self) -> None:
        """Bring every node up."""
        self.cluster.create(count=NODES, proxy_tcp_port=0)
        self.faults.give_disks(size_bytes=DISK_BYTES)
        await self.calm()

    async def destroy(self) -> None:
        """Leave nothing."""
        await self.cluster.stop()
        self.faults.take_disks()
        await self.cluster.destroy()

    async def calm(self) -> None:
        """Switch everything on, heal the network, and wait for three HEALTHY voters."""
        progress = Progress(io.StringIO(), title="bench")
        await Launch(cluster=self.cluster, contexts_root=self._root, progress=progress).run()

    @asynccontextmanager
    async def operator(self) -> AsyncGenerator[Cluster, None]:
        """Connect as the owner."""
        async with connect(contexts.load(self._root, self.cluster.rack.name)) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[Writer, None]:
        """Write while the block runs; afterwards everything acknowledged must be there."""
        async with self.operator() as connection:
            target = (await nodes.list_nodes(connection.channel))[0].id
            writer = Writer(connection, target, self._newest)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(writer.run())
                await writer.wait_writes(5, within_s=30)
                yield writer
                running.cancel()
            self._newest = writer.acknowledged + writer.refused + 1
            (node,) = [
                each for each in await nodes.list_nodes(connection.channel) if each.id == target
            ]
            found = next(int(pair.value) for pair in node.labels.pairs if pair.key == LABEL)
            if found < writer.acknowledged:
                raise SystemExit(f"LOST: {writer.acknowledged} was acknowledged, {found} is there")

    async def leader(self) -> int:
        """Which machine leads."""
        async with self.operator() as connection:
            await nodes.list_nodes(connection.channel)
            channel = connection.channel
            assert isinstance(channel, ClusterChannel)
            assert channel.leader is not None
            host = channel.leader.host
        return next(number for number in range(NODES) if address_of(number) == host)

    async def write_at(self, number: int) -> str:
        """Write through one node and nobody else; return the code of its refusal, or nothing."""
        async with self.operator() as connection:
            target = (await nodes.list_nodes(connection.channel))[0].id
            channel = connection.transport.dial(
                Endpoint(address_of(number), CURATOR_TCP_PORT),
                credentials=connection.credentials,
                verify=server_verifier(connection.ca),
            )
            try:
                await nodes.update_labels(channel, target, upsert={"stale": "yes"}, timeout_s=4)
            except MetropolisError as error:
                return error.code
            finally:
                await channel.close()
        return ""
