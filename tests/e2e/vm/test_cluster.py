# SPDX-License-Identifier: Apache-2.0
"""Three virtual nodes: encrypted disks that open again after reboots, power cuts, the button.

A whole encrypted cluster that lost its power cannot come back by itself yet: two nodes are always
on here.
"""

import asyncio
import time
from pathlib import Path

import pytest

from e2e.vm.machines import Trio
from metropolis.api import common_pb2
from metropolis.api.management_pb2 import Node
from metropolis.formats import gpt
from metropolis.lab.qemu.arguments import MEMORY

pytestmark = pytest.mark.timeout(600)  # the first test waits for the image and the launch

BACK_S = 60.0  # a reboot, to a heartbeat, where nothing but this runs
PATIENCE = 2.0  # tests share the computer


def test_every_node_uses_its_tpm_and_an_encrypted_disk(trio: Trio) -> None:
    nodes = asyncio.run(trio.nodes())
    assert sorted(nodes) == [0, 1, 2]
    for node in nodes.values():
        assert node.health == Node.HEALTH_HEALTHY
        assert node.tpm_usage == common_pb2.NODE_TPM_USAGE_PRESENT_AND_USED
    for number in nodes:
        assert data_partition(trio.machine(number) / "disk.raw").startswith(b"LUKS\xba\xbe\0\2")


def test_each_node_comes_back_after_a_power_cut(trio: Trio) -> None:
    async def scenario(number: int) -> None:
        moment = time.time()
        console = trio.console(number)
        await trio.cluster.power(number, "cycle")
        await trio.heartbeat_after(number, moment + 1, timeout_s=PATIENCE * BACK_S)
        await console.wait_for("boot: ")
        await trio.bring_up()

    for number in trio.cluster.rack.numbers:
        asyncio.run(scenario(number))


def test_the_power_button_shuts_a_node_down_in_order(trio: Trio) -> None:
    async def scenario() -> None:
        console = trio.console(2)
        await trio.cluster.power(2, "off")
        await console.wait_for("the power button was pressed", timeout_s=5)
        status = (await trio.cluster.status())[2]
        assert (status.power, status.is_running, status.last_exit) == ("off", False, 0)
        await trio.bring_up()

    asyncio.run(scenario())


def test_a_stopped_cluster_goes_on_where_it_was(trio: Trio) -> None:
    async def scenario() -> None:
        assert await trio.cluster.stop()
        for number in trio.cluster.rack.numbers:
            memory = trio.machine(number) / MEMORY
            assert memory.stat().st_mode & 0o777 == 0o600  # the keys of the disks are in there
        await trio.bring_up()
        for machine in await trio.cluster.status():
            assert machine.boots == 1
            assert not (trio.machine(machine.number) / MEMORY).exists()  # never twice

    asyncio.run(scenario())


def data_partition(disk: Path) -> bytes:
    """The first bytes of a disk's data partition."""
    with disk.open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        table = gpt.decode(read, disk_bytes=disk.stat().st_size)
        (data,) = (each for each in table.partitions if each.name == gpt.DATA_NAME)
        return read(data.first_lba * table.sector_bytes, 4096)
