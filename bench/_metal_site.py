# SPDX-License-Identifier: Apache-2.0
"""A Metal site for benchmarks: machines, a quarter of them allocated, and its server.

A machine in a list is 2.3 KB of JSON.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.__main__ import OUTPUT
from metropolis.host.linux.clock import LinuxClock
from metropolis.metal.kinds import KINDS
from metropolis.metal.model.event import EVENTS, Event
from metropolis.metal.model.hardware import Disk, Nic
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.machines import empty_machine
from metropolis.metal.store import Store, Transaction
from metropolis.metal.store.indexing import index_kinds
from metropolis.metal.store.opening import open_store

ROOT: Final = OUTPUT.parent.parent
BOOT: Final = (Event.PXE_BOOTING, Event.PREPARING, Event.REGISTERING, Event.WAITING)
PER_RACK: Final = 20
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def machine_name(number: int) -> str:
    """The id of the n-th machine."""
    return f"10000000-0000-0000-0000-{number:012d}"


async def make_site(database: str) -> Machine:
    """Make what machines refer to; return one that is allocated, after which others are made."""
    from unit.metal.machines.fleet import fleet  # noqa: PLC0415  # after the path is known

    async with fleet(url=database) as site:
        await index_kinds(site.world.store, KINDS)
        machine_id = await site.boot(0)
        await site.allocate()
        await site.install(machine_id)
        return await site.machine(machine_id)


async def add_machines(database: str, pattern: Machine, start: int, stop: int) -> None:
    """Add machines that were heard of just now."""
    store = await open_store(database, clock=LinuxClock())
    try:
        await _add(store, pattern, start, stop)
    finally:
        await store.close()


async def _add(store: Store, pattern: Machine, start: int, stop: int) -> None:
    async def some(tx: Transaction, first: int, last: int) -> None:
        for number in range(first, last):
            machine = _like(pattern, number, tx)
            await tx.insert(MACHINES, machine.id, machine)
            container = new_container(machine.id)
            for event in BOOT:
                container, _ = step(container, event, now=tx.now)
            await tx.insert(EVENTS, machine.id, container)

    for first in range(start, stop, 500):
        last = min(first + 500, stop)
        await store.write(lambda tx, first=first, last=last: some(tx, first, last))  # type: ignore[misc]


def _like(pattern: Machine, number: int, tx: Transaction) -> Machine:
    replace = msgspec.structs.replace
    machine_id = machine_name(number)
    nics = tuple(
        Nic(
            mac=f"0e:{number:08x}:{index}",
            name=f"eth{index}",
            identifier=f"0000:3b:00.{index}",
            neighbors=(
                Nic(
                    mac=f"02:{number:08x}:{index}",
                    name=f"Ethernet{index * 4}",
                    identifier=f"Eth1/{index}",
                    hostname=f"leaf{index:02d}",
                ),
            ),
        )
        for index in range(2)
    )
    disks = tuple(
        Disk(name=f"/dev/nvme{index}n1", size_bytes=3_840_755_982_336) for index in (0, 1)
    )
    allocation = pattern.allocation
    if number % 4 or allocation is None:
        allocation = None
    else:
        name = f"worker-{number}"
        allocation = replace(allocation, name=name, hostname=name, uuid=machine_id)
    return replace(
        empty_machine(machine_id, partition_id=pattern.partition_id, now=tx.now),
        size_id=pattern.size_id,
        image_id="" if allocation is None else pattern.image_id,
        rack_id=f"rack-{number // PER_RACK}",
        waiting=allocation is None,
        hardware=replace(pattern.hardware, nics=nics, disks=disks),
        bios=pattern.bios,
        tags=(f"machine.metal-stack.io/chassis=chassis-{number // 4}",),
        allocation=allocation,
    )


@dataclass(kw_only=True)
class Server:
    """A replica in a process of its own."""

    process: subprocess.Popen[str]
    tcp_port: int
    grpc_tcp_port: int
    certificates: Path

    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def free_tcp_port() -> int:
    """Return a port that nobody has, for now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server_of(
    database: str, directory: Path, *, kept_bytes: int, profile: str = ""
) -> Iterator[Server]:
    """Run a replica while the block runs."""
    tcp_port, grpc_tcp_port = free_tcp_port(), free_tcp_port()
    arguments = [database, directory, tcp_port, grpc_tcp_port, kept_bytes, profile]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench._metal_replica",
            *(str(each) for each in arguments if each != ""),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "serving\n", "the server did not start"
        yield Server(
            process=process,
            tcp_port=tcp_port,
            grpc_tcp_port=grpc_tcp_port,
            certificates=directory / "grpc",
        )
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
