# SPDX-License-Identifier: Apache-2.0
"""Runs one scenario against a real etcd (in real time) or its memory twin (in virtual time)."""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.fetch.binary import etcd_binary
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Membership, Store
from metropolis.rpc.grpc import dial_unix
from metropolis.sim import simulate

Scenario = Callable[[Store, Membership], Awaitable[None]]
Run = Callable[[Scenario], None]

START_S_MAX = 30.0
_PREFIXES = count()


@dataclass
class EtcdProcesses:
    """Real members in one directory, with unix sockets for clients and peers."""

    directory: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self,
        name: str,
        *,
        joins: str = "",
        founders: str = "",
        alone: bool = False,
        quota_bytes: int = 0,
    ) -> str:
        """Start a member and return its client socket.

        It founds a cluster (with others, if `founders` lists them), or becomes a member of the
        one that `joins` lists. A member that has data goes on with that; `alone`, it forgets the
        others.
        """
        peer = f"unix://{name}.peer:0"
        own = f"{name}={peer}"
        log = (self.directory / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", etcd_binary()),
                *("--name", name, "--data-dir", f"{name}.data", "--unsafe-no-fsync"),
                *("--listen-client-urls", f"unix://{name}.client:0"),
                *("--advertise-client-urls", f"unix://{name}.client:0"),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"{joins},{own}" if joins else founders or own),
                *("--initial-cluster-state", "existing" if joins else "new"),
                *("--heartbeat-interval", "100", "--election-timeout", "1000"),
                *("--logger", "zap", "--log-level", "warn"),
                *(["--force-new-cluster"] if alone else []),
                *([f"--quota-backend-bytes={quota_bytes}"] if quota_bytes else []),
            ],
            cwd=self.directory,
            stdout=log,
            stderr=log,
        )
        log.close()
        return os.path.relpath(self.directory / f"{name}.client:0")

    def kill(self, name: str) -> None:
        """End a member as a power cut would."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)


async def answers(store: Store) -> bool:
    """Whether a quorum answers."""
    try:
        await store.get(b"/probe")
    except Exception:  # noqa: BLE001  # not up yet, for whatever reason
        return False
    return True


async def poll_until_answers(store: Store) -> None:
    """Poll a starting member: nothing announces that it is ready."""
    deadline_s = time.monotonic() + START_S_MAX
    while not await answers(store):
        assert time.monotonic() < deadline_s, "etcd does not answer"
        await asyncio.sleep(0.02)


@pytest.fixture
def etcd_processes(tmp_path: Path) -> Iterator[EtcdProcesses]:
    """Real members that a test starts and kills."""
    processes = EtcdProcesses(tmp_path)
    try:
        yield processes
    finally:
        processes.kill_all()


@pytest.fixture(scope="session")
def etcd_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real member for every scenario that needs no other."""
    processes = EtcdProcesses(tmp_path_factory.mktemp("etcd"))
    try:
        yield processes.start("only")
    finally:
        processes.kill_all()


def run_in_etcd(socket: str, scenario: Scenario) -> None:
    async def main() -> None:
        channel = dial_unix(socket)
        try:
            store = EtcdStore(channel)
            await poll_until_answers(store)
            await scenario(store, EtcdMembership(channel))
        finally:
            await channel.close()

    asyncio.run(main())


def run_in_memory(scenario: Scenario) -> None:
    async def main() -> None:
        cluster = MemoryCluster()
        member_id = cluster.bootstrap(name="only", peer_url="unix://only.peer:0")
        await scenario(MemoryStore(cluster, member_id), MemoryMembership(cluster, member_id))

    simulate(main, seed=1)


@pytest.fixture(params=["memory", "etcd"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario in one of the two worlds."""
    if request.param == "memory":
        return run_in_memory
    socket = str(request.getfixturevalue("etcd_socket"))
    return lambda scenario: run_in_etcd(socket, scenario)


@pytest.fixture(scope="session")
def wait_answers() -> Callable[[Store], Awaitable[None]]:
    """Waits until a store answers."""
    return poll_until_answers


@pytest.fixture
def prefix() -> bytes:
    """A part of the keys that no other test touches."""
    return f"/test-{next(_PREFIXES)}/".encode()
