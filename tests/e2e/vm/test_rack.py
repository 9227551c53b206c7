# SPDX-License-Identifier: Apache-2.0
"""The rack around virtual machines: switches, crashes, and what a killed keeper leaves behind.

The machines have an empty disk, so their firmware is all that runs.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from e2e.vm.machines import guest_directory
from metropolis.lab import leftovers
from metropolis.lab.cluster import LabCluster, NodeStatus
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.qemu.arguments import DISK
from metropolis.lab.state import ClusterDirectory

TIMEOUT_S = 20.0


@pytest.fixture
def rack(image: Path, tmp_path: Path) -> Iterator[LabCluster]:
    """Two machines with empty disks, on; nothing of them is left afterwards."""
    directory = ClusterDirectory(tmp_path / "rack")
    cluster = LabCluster(directory, dies_with_us=True)
    cluster.create(count=2, driver=QEMU_DRIVER, proxy_tcp_port=0)
    directory.image.symlink_to(image)
    for number in cluster.rack.numbers:
        directory.node(number).rmdir()
        guest_directory(directory.node(number), image)
        with (directory.node(number) / DISK).open("wb") as disk:
            disk.truncate(1 << 30)
    try:
        cluster.start()
        yield cluster
    finally:
        asyncio.run(cluster.destroy())
    assert leftovers.find_processes(directory) == []


async def until(
    cluster: LabCluster, number: int, is_so: Callable[[NodeStatus], bool]
) -> NodeStatus:
    """Wait for a state of a machine, and return it."""
    async with asyncio.timeout(TIMEOUT_S):
        while not is_so(status := (await cluster.status())[number]):  # noqa: ASYNC110  # it is asked
            await asyncio.sleep(0.05)
    return status


def process_of(cluster: LabCluster, number: int, program: str) -> int:
    """The id of QEMU or swtpm of a machine."""
    home = str(cluster.directory.node(number))
    for each in leftovers.find_processes(cluster.directory):
        proc = Path("/proc") / str(each)
        words = (proc / "cmdline").read_bytes().split(b"\0")
        if words[0].endswith(program.encode()) and str((proc / "cwd").readlink()) == home:
            return each
    raise LookupError(program)


def run(work: Awaitable[None]) -> None:
    async def whole() -> None:
        await work

    asyncio.run(whole())


def test_a_machine_without_a_disk_was_told_nothing_and_stays_off(
    image: Path, tmp_path: Path
) -> None:
    cluster = LabCluster(ClusterDirectory(tmp_path / "empty"), dies_with_us=True)
    cluster.create(count=1, driver=QEMU_DRIVER, proxy_tcp_port=0)
    cluster.directory.image.symlink_to(image)
    try:
        cluster.start()
        (status,) = asyncio.run(cluster.status())
        assert (status.power, status.is_running, status.boots) == ("off", False, 0)
    finally:
        asyncio.run(cluster.destroy())


def test_the_switch_the_cut_and_a_crash(rack: LabCluster) -> None:
    async def scenario() -> None:
        await until(rack, 0, lambda status: status.is_running)
        await rack.power(0, "kill")
        off = (await rack.status())[0]
        assert (off.power, off.is_running, off.last_exit) == ("off", False, 128 + 9)
        with pytest.raises(LookupError):
            process_of(rack, 0, "swtpm")
        await rack.power(0, "on")
        assert (await rack.status())[0].boots == 2
        await asyncio.sleep(0.5)  # until QEMU has taken the place of what starts it
        os.kill(process_of(rack, 0, "qemu-system-x86_64"), signal.SIGKILL)
        again = await until(rack, 0, lambda status: status.boots == 3)
        assert again.power == "on"
        assert (await rack.status())[1].boots == 1

    run(scenario())


def test_nothing_outlives_a_keeper_that_was_killed(rack: LabCluster) -> None:
    async def scenario() -> None:
        for number in rack.rack.numbers:
            await until(rack, number, lambda status: status.is_running)
        await asyncio.sleep(0.5)
        assert process_of(rack, 0, "swtpm") != process_of(rack, 1, "swtpm")
        keeper = next(
            each
            for each in leftovers.find_processes(rack.directory)
            if b"metropolis.lab.keeper" in (Path("/proc") / str(each) / "cmdline").read_bytes()
        )
        os.kill(keeper, signal.SIGKILL)
        assert await leftovers.wait_gone(rack.directory, timeout_s=TIMEOUT_S)

    run(scenario())
