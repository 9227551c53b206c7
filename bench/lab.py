# SPDX-License-Identifier: Apache-2.0
"""A whole cluster on this computer, on real time: launch, failover, memory. Needs root."""

import asyncio
import io
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from metropolis.base.errors import MetropolisError
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import connect
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory
from metropolis.rpc.resolver import ClusterChannel

NODES = 3
FAILOVERS = 20
HELP_ROUNDS = 10
IDLE_S = 5.0

Measurement = tuple[float, str, float | None]  # value, unit, target


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    figures: dict[str, Measurement] = {"metropolis --help": (_help_ms(), "ms", 100)}
    if os.geteuid() == 0:
        figures |= uvloop.run(_measure_cluster())
    return figures


async def _measure_cluster() -> dict[str, Measurement]:
    with tempfile.TemporaryDirectory(prefix="metropolis-bench-") as path:
        cluster = LabCluster(ClusterDirectory(Path(path) / "bench"), dies_with_us=True)
        root = Path(path) / "config"
        try:
            cluster.create(count=NODES, proxy_tcp_port=0)
            started_s = time.monotonic()
            await _bring_up(cluster, root)
            launch_s = time.monotonic() - started_s
            await asyncio.sleep(IDLE_S)
            resident = _resident_mib(cluster)
            waits_s = sorted([await _fail_over(cluster, root) for _ in range(FAILOVERS)])
        finally:
            await cluster.destroy()
    return {
        "launch, 3 voting members HEALTHY": (launch_s, "s", 15),
        "core process, idle node, largest": (max(resident), "MiB", 80),
        "leader killed to next write, p50": (_quantile(waits_s, 0.5), "s", None),
        "leader killed to next write, p95": (_quantile(waits_s, 0.95), "s", 8),
        "leader killed to next write, worst of 20": (waits_s[-1], "s", 12),
    }


async def _bring_up(cluster: LabCluster, root: Path) -> None:
    progress = Progress(io.StringIO(), title="bench")
    await Launch(cluster=cluster, contexts_root=root, progress=progress).run()


async def _fail_over(cluster: LabCluster, root: Path) -> float:
    """Cut the leader's power; return the seconds until a write is acknowledged again."""
    async with connect(contexts.load(root, cluster.rack.name)) as connection:
        found = await nodes.list_nodes(connection.channel)
        channel = connection.channel
        assert isinstance(channel, ClusterChannel)
        assert channel.leader is not None
        leader = channel.leader.host
        survivor = next(node.id for node in found if node.status.external_address != leader)
        number = next(each.number for each in await cluster.status() if each.address == leader)
        await cluster.power(number, "kill")
        started_s = time.monotonic()
        while True:
            try:
                mark = {"bench": str(int(started_s * 1000))}
                await nodes.update_labels(channel, survivor, upsert=mark, timeout_s=30)
                break
            except MetropolisError as error:
                if not error.retryable:
                    raise
        waited_s = time.monotonic() - started_s
    await cluster.power(number, "on")
    await _bring_up(cluster, root)
    return waited_s


def _resident_mib(cluster: LabCluster) -> list[float]:
    """Resident memory of every node's core process."""
    found = []
    for process_id in find_processes(cluster.directory):
        proc = Path("/proc") / str(process_id)
        if b"metropolis.node\0" in (proc / "cmdline").read_bytes():
            lines = (proc / "status").read_text(encoding="ascii").splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
            found.append(kib / 1024)
    assert len(found) == NODES
    return found


def _quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the (sorted) values does not exceed."""
    return values[math.ceil(share * len(values)) - 1]


def _help_ms() -> float:
    """The best of ten: everything slower is somebody else's work."""
    code = "import sys; from metropolis.lab.main import main; sys.exit(main())"
    best_s = float("inf")
    for _ in range(HELP_ROUNDS):
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True)
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s * 1000
