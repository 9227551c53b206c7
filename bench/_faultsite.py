# SPDX-License-Identifier: Apache-2.0
"""A cluster of the lab to break on purpose, and a client that writes to it all the time."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
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
        self._root = path / "config"
        self._newest = 0

    async def launch(self) -> None:
        """Bring every node up."""
        self.cluster.create(count=NODES, proxy_tcp_port=0)
        for number in range(NODES):
            disk = self.disk(number)
            disk.mkdir(parents=True, exist_ok=True)
            _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "disk", str(disk))
        await self.calm()

    async def destroy(self) -> None:
        """Leave nothing."""
        await self.cluster.stop()
        for number in range(NODES):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was never mounted
                _run("umount", "-l", str(self.disk(number)))
        await self.cluster.destroy()

    def disk(self, number: int) -> Path:
        """Where a machine's disk is on this computer."""
        return self.cluster.directory.storage(number)

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

    def processes(self, number: int) -> Sequence[int]:
        """Everything that runs on a machine, process 1 first."""
        mark = f"--address\0{address_of(number)}\0".encode()
        everything = find_processes(self.cluster.directory)
        first = next(
            each
            for each in everything
            if mark in (words := _command_line(each)) and b"namespace.boot" not in words
        )
        home = _link(f"/proc/{first}/ns/pid")
        running = sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
        inside = [each for each in running if _link(f"/proc/{each}/ns/pid") == home]
        return [first, *(each for each in inside if each != first)]

    def etcd(self, number: int) -> int:
        """The process of a machine's consensus member."""
        found = [
            each for each in self.processes(number) if _link(f"/proc/{each}/exe").endswith("etcd")
        ]
        assert found, f"machine {number} runs no consensus member"
        return found[0]

    @contextmanager
    def blackhole(self, number: int, others: Sequence[int]) -> Generator[None, None, None]:
        """Let nothing that a machine sends reach others; what they send arrives."""
        inside = ("nsenter", "-t", str(self.processes(number)[0]), "-n", "ip", "route")
        for other in others:
            _run(*inside, "add", "blackhole", f"{address_of(other)}/32")
        try:
            yield
        finally:
            for other in others:
                _run(*inside, "del", "blackhole", f"{address_of(other)}/32")

    @asynccontextmanager
    async def bad_cable(
        self, number: int, *, loss: float, delay_s: float
    ) -> AsyncGenerator[None, None]:
        """Put a bad cable between a machine and the rack's bridge."""
        keeper = self._keeper()
        rack = ("nsenter", "-t", str(keeper), "-n")
        links = json.loads(_run(*rack, "ip", "-j", "link", "show", "type", "veth"))
        port = next(each["ifname"] for each in links if each["ifname"].startswith(f"node{number}b"))
        _run(*rack, "ip", "link", "add", "bad0", "type", "veth", "peer", "name", "bad1")
        for words in (
            ("link", "set", port, "nomaster"),
            ("link", "set", port, "promisc", "on"),
            ("link", "set", "bad0", "promisc", "on", "up"),
            ("link", "set", "bad1", "master", "lab0", "up"),
        ):
            _run(*rack, "ip", *words)
        argv = [sys.executable, "-m", "bench._relay", port, "bad0", str(loss), str(delay_s)]
        with subprocess.Popen([*rack, *argv], stdout=subprocess.PIPE) as relay:  # noqa: ASYNC220
            try:
                assert relay.stdout is not None
                assert relay.stdout.readline() == b"ready\n"
                yield
            finally:
                relay.kill()
                _run(*rack, "ip", "link", "set", port, "promisc", "off", "master", "lab0")
                _run(*rack, "ip", "link", "del", "bad0")

    def _keeper(self) -> int:
        return next(
            each
            for each in find_processes(self.cluster.directory)
            if b"metropolis.lab.keeper" in _command_line(each)
        )

    @contextmanager
    def full_disk(self, number: int) -> Generator[None, None, None]:
        """Leave no byte free on a machine's disk."""
        filler = self.disk(number) / "filler"
        with filler.open("wb", buffering=0) as file:
            for size_bytes in (1 << 20, 4096):
                with contextlib.suppress(OSError):  # there is no room any more
                    while True:
                        file.write(bytes(size_bytes))
        try:
            yield
        finally:
            filler.unlink()


async def stutter(process_id: int, *, stopped_s: float, running_s: float, for_s: float) -> None:
    """Let a process run only now and then."""
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        os.kill(process_id, signal.SIGSTOP)
        await asyncio.sleep(stopped_s)
        os.kill(process_id, signal.SIGCONT)
        await asyncio.sleep(running_s)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _command_line(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
