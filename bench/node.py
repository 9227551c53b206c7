# SPDX-License-Identifier: Apache-2.0
"""What a connected node costs the leader: memory and CPU, with everything a real node keeps open.

One real node leads; 500 more are registered and approved through its API. It starts anew, so that
its memory holds nothing of that, and they connect as nodes do: one connection each, with a stream
of heartbeats, a watch of itself, one of all nodes and one of the leader. Needs root.
"""

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from metropolis.api import curator_pb2, management_pb2
from metropolis.api.common_pb2 import NODE_STORAGE_SECURITY_INSECURE
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_management import Management
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.model import address_of
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory
from metropolis.pki import keys
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint

COUNT = 500
AT_ONCE = 20
HEARTBEAT_S = 5.0
OBSERVED_S = 20.0  # four heartbeats of each
SETTLE_S = 5.0

Measurement = tuple[float, str, float | None]  # value, unit, target


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    return uvloop.run(_measure()) if os.geteuid() == 0 else {}


async def _measure() -> dict[str, Measurement]:
    with _cluster_directory() as (cluster, root):
        try:
            cluster.create(count=1, proxy_tcp_port=0)
            progress = Progress(io.StringIO(), title="bench")
            await Launch(cluster=cluster, contexts_root=root, progress=progress).run()
            async with connect(contexts.load(root, cluster.rack.name)) as owner:
                return await _measure_connected(owner, cluster)
        finally:
            await cluster.destroy()


async def _measure_connected(owner: Cluster, cluster: LabCluster) -> dict[str, Measurement]:
    core = _Core(cluster)
    await asyncio.sleep(SETTLE_S)
    idle_mib, _ = core.memory_mib()
    begun_s = core.cpu_s()
    members = await _enrol(owner, COUNT)
    enrolment_ms = (core.cpu_s() - begun_s) / COUNT * 1e3
    await cluster.power(0, "cycle")
    await _wait_leading(owner)
    await asyncio.sleep(SETTLE_S)
    core = _Core(cluster)
    _, before_mib = core.memory_mib()
    async with _connected(owner, members):
        await asyncio.sleep(SETTLE_S)
        _, after_mib = core.memory_mib()
        begun_s = core.cpu_s()
        await asyncio.sleep(OBSERVED_S)
        cpu_share = (core.cpu_s() - begun_s) / OBSERVED_S
    each_kib = (after_mib - before_mib) / COUNT * 1024
    return {
        "core process, idle, resident": (idle_mib, "MiB", 80),
        f"memory per connected node, {COUNT}": (each_kib, "KiB", 120),
        "leader CPU per enrolled node": (enrolment_ms, "ms", None),
        f"leader CPU with {COUNT} connected nodes": (cpu_share * 100, "%", None),
    }


async def _wait_leading(owner: Cluster) -> None:
    while True:
        try:
            await nodes.list_nodes(owner.channel)
        except MetropolisError as error:
            if not error.retryable:
                raise
        else:
            return


class _Core:
    """The core process of the only node, seen from outside."""

    def __init__(self, cluster: LabCluster) -> None:
        (self._proc,) = (
            proc
            for each in find_processes(cluster.directory)
            if b"metropolis.node\0"
            in (proc := Path(f"/proc/{each}")).joinpath("cmdline").read_bytes()
        )

    def memory_mib(self) -> tuple[float, float]:
        """Return what is resident, and of that what is its own alone."""
        fields = {}
        for line in (self._proc / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, amount, *_ = line.split()
            fields[name] = int(amount) / 1024
        return fields["Rss:"], fields["Private_Dirty:"] + fields["Private_Clean:"]

    def cpu_s(self) -> float:
        words = (self._proc / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Member:
    """A node that exists only as a connection."""

    node_id: str
    credentials: Credentials


async def _enrol(owner: Cluster, count: int) -> Sequence[_Member]:
    ticket = await nodes.register_ticket(owner.channel)
    turns = asyncio.Semaphore(AT_ONCE)

    async def enrol_one() -> _Member:
        async with turns:
            return await _enrol_one(owner, ticket)

    return await asyncio.gather(*(enrol_one() for _ in range(count)))


async def _enrol_one(owner: Cluster, ticket: bytes) -> _Member:
    key = keys.generate_key(LinuxEntropy())
    join_key = keys.raw_public_key(keys.generate_key(LinuxEntropy()))
    async with _dial(owner, Credentials(certificate=issue_ephemeral(key), key=key)) as channel:
        await channel.call(
            Curator.REGISTER_NODE,
            curator_pb2.RegisterNodeRequest(register_ticket=ticket, join_key=join_key),
        )
        await owner.channel.call(
            Management.APPROVE_NODE,
            management_pb2.ApproveNodeRequest(pubkey=keys.raw_public_key(key)),
        )
        committed = await channel.call(
            Curator.COMMIT_NODE,
            curator_pb2.CommitNodeRequest(storage_security=NODE_STORAGE_SECURITY_INSECURE),
        )
    public_key = keys.raw_public_key(key)
    return _Member(
        f"metropolis-{public_key[:16].hex()}",
        Credentials(certificate=committed.node_certificate, key=key),
    )


@asynccontextmanager
async def _connected(owner: Cluster, members: Sequence[_Member]) -> AsyncIterator[None]:
    """Hold what a node holds open, for every member."""
    turns = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        async def hold(member: _Member) -> None:
            async with turns:
                channel = await stack.enter_async_context(_dial(owner, member.credentials))
                itself, everybody = curator_pb2.WatchRequest(), curator_pb2.WatchRequest()
                itself.node_in_cluster.node_id = member.node_id
                everybody.nodes_in_cluster.SetInParent()
                for method, request in (
                    (CuratorLocal.GET_CURRENT_LEADER, curator_pb2.GetCurrentLeaderRequest()),
                    (Curator.WATCH, itself),
                    (Curator.WATCH, everybody),
                ):
                    stream = await stack.enter_async_context(channel.open(method))
                    await stream.send(request)
                    await stream.end()
                    await stream.receive()
                    tasks.append(group.create_task(_drain(stream)))
                beats = await stack.enter_async_context(channel.open(Curator.HEARTBEAT))
            tasks.append(group.create_task(_beat(beats)))

        tasks: list[asyncio.Task[None]] = []
        await asyncio.gather(*(hold(member) for member in members))
        yield
        for task in tasks:
            task.cancel()


async def _drain(stream: Any) -> None:  # noqa: ANN401  # of any method
    while await stream.receive() is not None:
        pass


async def _beat(stream: Any) -> None:  # noqa: ANN401  # as above
    while True:
        await stream.send(curator_pb2.HeartbeatRequest())
        await stream.receive()
        await asyncio.sleep(HEARTBEAT_S)


@asynccontextmanager
async def _dial(owner: Cluster, credentials: Credentials) -> AsyncIterator[Channel]:
    channel = owner.transport.dial(
        Endpoint(address_of(0), CURATOR_TCP_PORT),
        credentials=credentials,
        verify=server_verifier(owner.ca),
    )
    try:
        yield channel
    finally:
        await channel.close()


@contextmanager
def _cluster_directory() -> Iterator[tuple[LabCluster, Path]]:
    with tempfile.TemporaryDirectory(prefix="metropolis-bench-") as path:
        directory = ClusterDirectory(Path(path) / "bench")
        yield LabCluster(directory, dies_with_us=True), Path(path) / "config"
