# SPDX-License-Identifier: Apache-2.0
"""What breaks below real nodes: disks that are full or stall, cables that lose or delay.

faults = Faults(cluster)
async with faults.full_disk(0):                         # of its own: `give_disks`
    ...
async with faults.bad_cable(1, loss=0.5, delay_s=0.0):
    ...

For tests and benchmarks. Needs root. Power, splits and pulled cables are the keeper's.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from metropolis.lab.cluster import LabCluster
from metropolis.lab.leftovers import find_processes

STALL_S: Final = 1.8
HICCUP_S: Final = 0.6  # of a member whose followers wait a second before they vote
_RUNNING_S: Final = 0.2
_PROC: Final = Path("/proc")


class Faults:
    """The hands of somebody malicious who stands before the rack."""

    def __init__(self, cluster: LabCluster) -> None:
        self._cluster = cluster

    def give_disks(self, *, size_bytes: int) -> None:
        """Mount a disk of that size for every machine: a tmpfs. Before the first start."""
        for number in self._cluster.rack.numbers:
            disk = self._cluster.directory.storage(number)
            disk.mkdir(parents=True, exist_ok=True)
            options = f"size={size_bytes},mode=0700"
            _run("mount", "-t", "tmpfs", "-o", options, "metropolis-lab", str(disk))

    def take_disks(self) -> None:
        """Unmount what `give_disks` mounted, if it did. Machines that run keep theirs till then."""
        for number in self._cluster.rack.numbers:
            with contextlib.suppress(subprocess.CalledProcessError):  # it was never mounted
                _run("umount", "-l", str(self._cluster.directory.storage(number)))

    def process_1(self, number: int) -> int:
        """Find the id, on this computer, of a machine's process 1.

        Raises:
            LookupError: the machine does not run.
        """
        mark = f"--address\0{self._cluster.rack.address(number)}\0".encode()
        for process_id in find_processes(self._cluster.directory):
            words = _command_line(process_id)
            if mark in words and b"namespace.boot" not in words:
                return process_id
        raise LookupError(f"machine {number} does not run")

    def processes(self, number: int) -> Sequence[int]:
        """Find everything that runs on a machine, process 1 first.

        Raises:
            LookupError: the machine does not run.
        """
        first = self.process_1(number)
        home = _link(first, "ns/pid")
        running = sorted(int(each.name) for each in _PROC.iterdir() if each.name.isdigit())
        inside = [each for each in running if _link(each, "ns/pid") == home]
        return [first, *(each for each in inside if each != first)]

    def etcd(self, number: int) -> int:
        """Find the process of a machine's consensus member.

        Raises:
            LookupError: there is none.
        """
        for process_id in self.processes(number):
            if _link(process_id, "exe").endswith("etcd"):
                return process_id
        raise LookupError(f"machine {number} runs no consensus member")

    @asynccontextmanager
    async def full_disk(self, number: int) -> AsyncGenerator[None, None]:
        """Leave no byte free on a machine's disk, which must be one of `give_disks`."""
        filler = self._cluster.directory.storage(number) / "filler"
        assert filler.parent.is_mount(), "this would fill the disk of this computer"
        with filler.open("wb", buffering=0) as file:
            for size_bytes in (1 << 20, 4096):
                with contextlib.suppress(OSError):  # there is no room any more
                    while True:
                        file.write(bytes(size_bytes))
        try:
            yield
        finally:
            filler.unlink()

    @asynccontextmanager
    async def slow_disk(
        self, number: int, *, stall_s: float = STALL_S
    ) -> AsyncGenerator[None, None]:
        """Let a machine's consensus member write only in the 0.2 s between two stalls.

        An approximation: the member is stopped and continued, as one is that waits for its disk.

        Args:
            stall_s: By default longer than an election takes. A member that leads stays the leader
                in `HICCUP_S`, and warns.
        """
        member = self.etcd(number)
        async with asyncio.TaskGroup() as tasks:
            stuttering = tasks.create_task(_stutter(member, stall_s))
            try:
                yield
            finally:
                stuttering.cancel()

    @contextmanager
    def blackhole(self, number: int, others: Sequence[int]) -> Generator[None, None, None]:
        """Let nothing that a machine sends reach others; what they send arrives."""
        inside = ("nsenter", "-t", str(self.process_1(number)), "-n", "ip", "route")
        routes = [f"{self._cluster.rack.address(other)}/32" for other in others]
        for route in routes:
            _run(*inside, "add", "blackhole", route)
        try:
            yield
        finally:
            for route in routes:
                _run(*inside, "del", "blackhole", route)

    @asynccontextmanager
    async def bad_cable(
        self, number: int, *, loss: float, delay_s: float
    ) -> AsyncGenerator[None, None]:
        """Put a bad cable between a machine and the rack's bridge; see `relay`, each way."""
        rack = ("nsenter", "-t", str(self._keeper()), "-n")
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
        argv = [sys.executable, "-m", "metropolis.lab.relay", port, "bad0", str(loss), str(delay_s)]
        with subprocess.Popen([*rack, *argv], stdout=subprocess.PIPE) as relay:  # noqa: ASYNC220, S603
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
            for each in find_processes(self._cluster.directory)
            if b"metropolis.lab.keeper" in _command_line(each)
        )


async def _stutter(process_id: int, stall_s: float) -> None:
    try:
        while True:
            os.kill(process_id, signal.SIGSTOP)
            await asyncio.sleep(stall_s)
            os.kill(process_id, signal.SIGCONT)
            await asyncio.sleep(_RUNNING_S)
    except ProcessLookupError:
        pass  # it ended, as one may whose disk is that slow
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGCONT)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _command_line(process_id: int) -> bytes:
    try:
        return (_PROC / str(process_id) / "cmdline").read_bytes()
    except OSError:
        return b""


def _link(process_id: int, name: str) -> str:
    try:
        return str((_PROC / str(process_id) / name).readlink())
    except OSError:
        return ""
