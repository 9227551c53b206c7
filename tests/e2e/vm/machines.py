# SPDX-License-Identifier: Apache-2.0
"""Virtual machines for tests: in directories of their own, gone afterwards."""

import asyncio
import io
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab.cluster import LabCluster
from metropolis.lab.console import ConsoleReader
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.progress import Progress
from metropolis.lab.qemu import firmware
from metropolis.lab.qemu.accelerator import choose_accelerator
from metropolis.lab.qemu.arguments import Hardware
from metropolis.lab.qemu.disks import ENROLMENT
from metropolis.lab.qemu.image import found_image
from metropolis.lab.qemu.tpm import make_tpm
from metropolis.lab.state import ClusterDirectory

NAME = "vm"
LAUNCH_TIMEOUT_S = 240.0  # on a busy computer without KVM
BOOT_TIMEOUT_S = 120.0
IMAGE_VARIABLE = "METROPOLIS_IMAGE"  # a finished image to test instead of building one
_LOOK_AGAIN_S = 0.1
_ASK_AGAIN_S = 0.5  # of a node: its answers cost it work


def build_image(place: Path) -> Path:
    """Build the image of these sources, unless the environment names a finished one."""
    given = os.environ.get(IMAGE_VARIABLE)
    directory = ClusterDirectory(place.parent)
    assert directory.image == place
    found_image(directory, image=Path(given) if given else None, say=lambda _: None)
    return place


def guest_directory(
    place: Path, image: Path, *, in_setup_mode: bool = False
) -> tuple[Path, Hardware]:
    """Make a machine without a disk: firmware and a TPM, for a `Guest`.

    Args:
        in_setup_mode: The firmware knows no keys yet.
    """
    place.mkdir()
    build = firmware.find_firmware((image,))
    trusted = () if in_setup_mode else firmware.trusting(image / ENROLMENT)
    firmware.write_variables(place, build, trusted)
    make_tpm(place, maker=place.parent / "maker", name=place.name)
    hardware = Hardware(
        name=place.name, accelerator=choose_accelerator(os.environ), firmware=str(build.code)
    )
    return place, hardware


def copy_machine(machine: Path, copy: Path) -> None:
    """Copy a machine that is off: disk, firmware variables and TPM; holes stay holes."""
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(
        ["cp", "-a", "--sparse=always", "--reflink=auto", str(machine), str(copy)], check=True
    )


@dataclass(frozen=True)
class Trio:
    """A cluster of virtual machines, three as a rule, all HEALTHY at the beginning."""

    cluster: LabCluster
    contexts_root: Path

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Cluster, None]:
        """Talk to the cluster as its owner, through the proxy."""
        async with connect(contexts.load(self.contexts_root, NAME)) as connection:
            yield connection

    def launch(self, *, timeout_s: float = LAUNCH_TIMEOUT_S) -> Launch:
        return Launch(
            cluster=self.cluster,
            contexts_root=self.contexts_root,
            progress=Progress(io.StringIO(), title="test"),
            timeout_s=timeout_s,
        )

    def machine(self, number: int) -> Path:
        """The directory of a machine: disk.raw, firmware.fd, tpm/."""
        return self.cluster.directory.node(number)

    def console(self, number: int) -> "Console":
        """Follow what a machine prints from now on."""
        return Console(self.cluster.directory.console(number))

    async def bring_up(self, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until every node is HEALTHY, switching machines on where that is needed.

        Each must be heard from now on: one that went down a moment ago counts as HEALTHY for some
        seconds, and a second one that is cut then leaves an encrypted cluster without a majority.
        """
        moment = time.time()
        self.cluster.start()  # where the whole rack was put away
        for machine in await self.cluster.status():
            if machine.power == "off":
                await self.cluster.power(machine.number, "on")
        await self.launch(timeout_s=timeout_s).run()
        for number in self.cluster.rack.numbers:
            await self.heartbeat_after(number, moment, timeout_s=timeout_s)

    async def nodes(self) -> dict[int, Node]:
        """What the cluster knows of each node, by the number of its machine."""
        async with self.connected() as connection:
            found = await nodes.list_nodes(connection.channel)
        rack = self.cluster.rack
        numbers = {rack.address(number): number for number in rack.numbers}
        return {numbers[node.status.external_address]: node for node in found}

    async def heartbeat_after(self, number: int, moment: float, *, timeout_s: float) -> Node:
        """Wait until a node is HEALTHY by a heartbeat that is younger than a moment.

        Args:
            moment: Seconds since the epoch.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                node = None
                try:
                    node = (await self.nodes()).get(number)
                except MetropolisError as error:  # the leader may be the one that was cut
                    if not error.retryable:
                        raise
                if node is not None and node.health == Node.HEALTH_HEALTHY:
                    age_s = node.time_since_heartbeat.ToTimedelta().total_seconds()
                    if time.time() - age_s > moment:
                        return node
                await asyncio.sleep(_ASK_AGAIN_S)

    @contextmanager
    def saved(self, number: int) -> Generator[Path, None, None]:
        """Switch a machine off and let the block do what it likes to it; then all is as before.

        The machine's directory is given. It is off before and after the block, and afterwards has
        the disk, the variables and the TPM that it had before: use `bring_up` to go on.
        """
        machine = self.machine(number)
        copy = machine.with_name(f"{machine.name}.saved")
        asyncio.run(self.cluster.power(number, "off"))
        copy_machine(machine, copy)
        try:
            yield machine
        finally:
            asyncio.run(self.cluster.power(number, "kill"))
            for name in ("disk.raw", "firmware.fd", "tpm"):
                _remove(machine / name)
                (copy / name).rename(machine / name)
            shutil.rmtree(copy)


class Console:
    """What one machine prints, from the moment this was made."""

    def __init__(self, path: Path) -> None:
        self._reader = ConsoleReader(path)
        self.text = ""

    async def wait_for(self, pattern: str, *, timeout_s: float = BOOT_TIMEOUT_S) -> str:
        """Wait until the text matches, and return the line that does."""
        wanted = re.compile(pattern)
        try:
            async with asyncio.timeout(timeout_s):
                while (found := wanted.search(self.text)) is None:
                    self.text += self._reader.read()
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} on the console:\n{self.text[-3000:]}") from None
        start = self.text.rfind("\n", 0, found.start()) + 1
        return self.text[start:].splitlines()[0]


@contextmanager
def launched(path: Path, image: Path, *, count: int = 3) -> Generator[Trio, None, None]:
    """Launch virtual nodes; afterwards nothing of them is left."""
    cluster = LabCluster(ClusterDirectory(path / "clusters" / NAME), dies_with_us=True)
    made = Trio(cluster, path / "config")
    try:
        cluster.create(count=count, driver=QEMU_DRIVER, proxy_tcp_port=0)
        found_image(cluster.directory, image=image, say=lambda _: None)
        uvloop.run(made.launch().run())
        yield made
    finally:
        asyncio.run(cluster.destroy())
    assert find_processes(cluster.directory) == []


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
