# SPDX-License-Identifier: Apache-2.0
"""A process with the control planes of two members: one leads, the other takes over.

Everything is the product but the store, which lies in this process's memory. Reads lines:

    figures      answers CPU time, the longest pause of the garbage collector and the longest turn
                 of the event loop since the last question, in seconds of CPU time; then how often
                 a control plane began to lead
    memory       answers resident memory in KiB
    fail         the leader's control plane dies, with every connection to it
    profile PATH, stop    profiles what runs between them
"""

import asyncio
import cProfile
import gc
import resource
import sys
import time
from dataclasses import dataclass
from functools import partial
from random import Random

import uvloop

from bench.scale_cluster import (
    CA,
    FIRST_NODE,
    MEMBERS,
    OWNER_KEY,
    credentials,
    node_id,
    record,
    resident_kib,
)
from metropolis.api.common_pb2 import NODE_TPM_USAGE_NOT_PRESENT
from metropolis.cluster.curator import CuratorConfig, curator
from metropolis.cluster.office import LeaderHint
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.state import keys
from metropolis.cluster.state.bootstrap import BootstrapRequest, bootstrap_cluster
from metropolis.cluster.state.records import encode
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Put
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.collector import calm_collector
from metropolis.host.linux.open_files import allow_open_files
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.console.log_lines import console
from metropolis.pki.keys import raw_public_key
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context, LogTree, Supervisor, Value

PUT_AT_ONCE = 100


class _Pauses:
    """Notes how long the garbage collector stopped everything."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._began_s = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _facts: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.thread_time()
        else:
            self.worst_s = max(self.worst_s, time.thread_time() - self._began_s)


class _Turns:
    """Notes how long the event loop was busy before it came back to a timer."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._seen_s = time.thread_time()
        self._look()

    def _look(self) -> None:
        now_s = time.thread_time()
        self.worst_s = max(self.worst_s, now_s - self._seen_s)
        self._seen_s = now_s
        self._loop.call_later(0.02, self._look)


@dataclass(slots=True, kw_only=True)
class _Plane:
    """One control plane while it runs."""

    endpoint: Endpoint
    running: "asyncio.Task[None]"


class _Narrator:
    """Prints what control planes log about their leadership, and counts how often they led."""

    def __init__(self) -> None:
        self.tenures = 0

    def tell(self, number: int, line: str) -> None:
        """Take a line of a log."""
        if "] Leading: " in line:
            self.tenures += 1
        elif "] Election: " not in line:
            return
        print(f"  plane {number}: {line}", file=sys.stderr, flush=True)


async def _fill(store: MemoryStore, nodes: int) -> None:
    await bootstrap_cluster(
        store,
        BootstrapRequest(
            node_public_key=raw_public_key(credentials(MEMBERS[0]).key),
            join_public_key=b"\x02" * 32,
            owner_public_key=raw_public_key(OWNER_KEY),
            configuration=default_configuration(),
            tpm_usage=NODE_TPM_USAGE_NOT_PRESENT,
            cluster_unlock_key=b"\x03" * 32,
        ),
        SimEntropy(3),
    )
    for seed in (MEMBERS[1],):
        await store.transact([], [Put(keys.node(node_id(seed)), encode(record(seed)))])
    for start in range(FIRST_NODE, FIRST_NODE + nodes, PUT_AT_ONCE):
        some = [record(seed) for seed in range(start, min(start + PUT_AT_ONCE, FIRST_NODE + nodes))]
        await store.transact([], [Put(keys.node(each.node_id), encode(each)) for each in some])


def _start(
    group: asyncio.TaskGroup,
    status: ConsensusStatus,
    number: int,
    tcp_port: int,
    narrator: _Narrator,
) -> _Plane:
    own = credentials(MEMBERS[number])
    endpoint = Endpoint("127.0.0.1", tcp_port)
    clock = LinuxClock()
    config = CuratorConfig(
        node_id=node_id(MEMBERS[number]),
        credentials=own,
        ca_certificate=CA.certificate,
        transport=GrpcTransport(),
        endpoints=[endpoint],
        consensus=Value(status),
        relay=Value[LeaderHint | None](None),
        clock=clock,
        entropy=SimEntropy(number),
    )
    log_tree = LogTree(clock=clock)

    async def root(ctx: Context) -> None:
        ctx.run("console", partial(console, write=partial(narrator.tell, number)))
        ctx.run("curator", curator(config))
        ctx.healthy()
        await ctx.wait_cancelled()

    supervisor = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(number))
    return _Plane(endpoint=endpoint, running=group.create_task(supervisor.run()))


async def _serve(nodes: int, tcp_ports: list[int]) -> None:
    cluster = MemoryCluster()
    name = node_id(MEMBERS[0])
    member_id = cluster.bootstrap(name=name, peer_url=peer_url(name))
    store = MemoryStore(cluster, member_id)
    membership = MemoryMembership(cluster, member_id)
    await _fill(store, nodes)
    calm_collector()  # as a node does when it starts
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with asyncio.TaskGroup() as group:
        narrator = _Narrator()
        planes = []
        for number, tcp_port in enumerate(tcp_ports):
            status = ConsensusStatus(store=store, membership=membership, member_id=member_id)
            planes.append(_start(group, status, number, tcp_port, narrator))
            await asyncio.sleep(1.0)  # so that the first one leads
        print("ready", flush=True)
        profile = cProfile.Profile()
        pauses, turns = _Pauses(), _Turns()
        while line := (await lines.readline()).decode().split():
            match line:
                case ["figures"]:
                    usage = resource.getrusage(resource.RUSAGE_SELF)
                    cpu_s = usage.ru_utime + usage.ru_stime
                    print(cpu_s, pauses.worst_s, turns.worst_s, narrator.tenures, flush=True)
                    pauses.worst_s = turns.worst_s = 0.0
                case ["memory"]:
                    print(resident_kib(), flush=True)
                case ["fail"]:
                    planes[0].running.cancel()
                    print("failed", flush=True)
                case ["profile"]:
                    profile.enable()
                    print("on", flush=True)
                case ["stop", path]:
                    profile.disable()
                    profile.dump_stats(path)
                    print("off", flush=True)
                case _:
                    break
        for plane in planes:
            plane.running.cancel()


if __name__ == "__main__":
    allow_open_files()
    uvloop.run(_serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
