# SPDX-License-Identifier: Apache-2.0
"""Machines without TPM and encryption: what fills their disks, and what a copied disk does.

Nothing keeps anybody from such a disk, so a test can fill it while its machine is off, and boot a
copy of it.
"""

import asyncio
import io
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvloop

from e2e.vm.machines import BOOT_TIMEOUT_S, LAUNCH_TIMEOUT_S, Console
from kits.experiment_vm import ExperimentVm
from metropolis.api import common_pb2
from metropolis.api.introspection_pb2 import Finding
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError, ResourceExhaustedError
from metropolis.cluster.planner.room import REMEDY
from metropolis.ctl import contexts, credentials, explanation, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab import parameters
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.progress import Progress
from metropolis.lab.qemu.arguments import DISK
from metropolis.lab.qemu.image import found_image
from metropolis.lab.qemu.preparation import prepare_machines
from metropolis.lab.state import ClusterDirectory
from metropolis.pki import keys

pytestmark = [pytest.mark.timeout(900), pytest.mark.trio]

NAME = "plain"
FILLER = Path(__file__).with_name("filler.py")
KINDS = common_pb2.ClusterConfiguration
LOOK_AGAIN_S = 0.5
CALL_S = 10.0
LABELS = {"kept": "through-a-full-disk"}


@dataclass(frozen=True)
class Plain:
    """A cluster of machines whose disks are in clear. Node 0 holds the store, alone."""

    cluster: LabCluster
    contexts_root: Path
    experiments: Path

    def launch(self) -> Launch:
        return Launch(
            cluster=self.cluster,
            contexts_root=self.contexts_root,
            progress=Progress(io.StringIO(), title="test"),
            timeout_s=LAUNCH_TIMEOUT_S,
        )

    async def found(self) -> None:
        """Launch it, with its founder told to be without TPM and encryption."""
        launch = self.launch()
        context = await launch.prepare()
        owner = keys.raw_public_key(credentials.read_owner_key(context))
        told = parameters.bootstrap_parameters(owner_public_key=owner, driver=QEMU_DRIVER)
        policy = told.cluster_bootstrap.initial_cluster_configuration
        policy.tpm_mode = KINDS.TPM_MODE_DISABLED
        policy.storage_security_policy = KINDS.STORAGE_SECURITY_POLICY_NEEDS_INSECURE
        await parameters.write_parameters(self.cluster.directory, 0, told)
        await launch.run()

    def console(self, number: int) -> Console:
        return Console(self.cluster.directory.console(number))

    def disk(self, number: int) -> Path:
        return self.cluster.directory.node(number) / DISK

    def on_disk(self, number: int, do: str) -> str:
        """Fill or empty the data partition of a machine that is off; return what was printed."""
        machine = ExperimentVm(self.cluster.directory.image, self.experiments)
        source = f"import os\nos.environ['DO'] = {do!r}\n{FILLER.read_text()}"
        report = machine.run(source, [self.disk(number)])
        assert report.is_done, report.printed
        return report.printed

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Cluster]:
        async with connect(contexts.load(self.contexts_root, NAME)) as connection:
            yield connection

    async def node(self, number: int, *, after: float = 0.0) -> Node:
        """Wait until a node is HEALTHY by a heartbeat after a moment, and return it."""
        address = self.cluster.rack.address(number)
        async with asyncio.timeout(BOOT_TIMEOUT_S):
            while True:
                try:
                    async with self.connected() as cluster:
                        found = await nodes.list_nodes(cluster.channel, timeout_s=CALL_S)
                except MetropolisError as error:
                    if not error.retryable:
                        raise
                    found = []
                for node in found:
                    age_s = node.time_since_heartbeat.ToTimedelta().total_seconds()
                    if (
                        node.status.external_address == address
                        and node.health == Node.HEALTH_HEALTHY
                        and time.time() - age_s > after
                    ):
                        return node
                await asyncio.sleep(LOOK_AGAIN_S)

    async def label(self, node: Node, labels: dict[str, str]) -> None:
        async with self.connected() as cluster:
            await nodes.update_labels(cluster.channel, node.id, upsert=labels, timeout_s=CALL_S)

    async def explained(self, node: Node) -> explanation.Explanation:
        async with self.connected() as cluster:
            return await explanation.explain(cluster, node)


@pytest.fixture(scope="module")
def plain(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    path = tmp_path_factory.mktemp("plain")
    (path / "experiments").mkdir()
    cluster = LabCluster(ClusterDirectory(path / "clusters" / NAME), dies_with_us=True)
    made = Plain(cluster, path / "config", path / "experiments")
    try:
        cluster.create(count=2, driver=QEMU_DRIVER, proxy_tcp_port=0)
        found_image(cluster.directory, image=image, say=lambda _: None)
        uvloop.run(made.found())
        yield made
    finally:
        asyncio.run(cluster.destroy())
        shutil.rmtree(path / "experiments")
    assert find_processes(cluster.directory) == []


def test_a_full_disk_loses_nothing_says_what_to_do_and_is_over_when_there_is_room(
    plain: Plain,
) -> None:
    async def filled() -> None:
        node = await plain.node(0)
        await plain.label(node, LABELS)
        await plain.cluster.power(0, "off")
        printed = await asyncio.to_thread(plain.on_disk, 0, "fill")
        assert "reserve 128 MiB" in printed
        assert "free now: 0 MiB" in printed

    async def full() -> None:
        console, moment = plain.console(0), time.time()
        await plain.cluster.power(0, "on")
        assert await console.wait_for("problem: ") == "problem: the disk of this node is full"
        assert await console.wait_for("next step: ") == f"next step: {REMEDY}"
        await console.wait_for("Giving the reserve of 128 MiB up")
        node = await plain.node(0, after=moment)
        assert labels_of(node) == LABELS
        with pytest.raises(ResourceExhaustedError) as refused:
            await plain.label(node, {"refused": "yes"})
        assert str(refused.value).startswith("the disk of the leader is full: nothing was changed")
        assert refused.value.remedy == REMEDY
        explained = await plain.explained(node)
        (found,) = [each for each in explained.findings if each.code == "DISK_FULL"]
        assert found.severity == Finding.SEVERITY_ERROR
        assert found.remedy == REMEDY
        assert not explained.is_ready

    async def emptied() -> None:
        await plain.cluster.power(0, "off")
        assert "reserve 0 MiB" in await asyncio.to_thread(plain.on_disk, 0, "empty")
        console, moment = plain.console(0), time.time()
        await plain.cluster.power(0, "on")
        await console.wait_for("Keeping 128 MiB in reserve")
        node = await plain.node(0, after=moment)
        assert labels_of(node) == LABELS
        await plain.label(node, {"again": "yes"})
        assert (await plain.explained(node)).is_ready

    asyncio.run(filled())
    asyncio.run(full())
    asyncio.run(emptied())


def test_of_two_machines_with_one_disk_the_first_counts_and_the_other_is_told(plain: Plain) -> None:
    async def beside() -> None:
        """Start again with one more machine, which is off."""
        for number in (0, 1):
            await plain.cluster.power(number, "off")
        await plain.cluster.stop()
        rack = replace(plain.cluster.rack, count=3)
        plain.cluster.directory.create(rack)
        await prepare_machines(rack, plain.cluster.directory)

    async def scenario() -> None:
        moment = time.time()
        await plain.node(0, after=moment)
        original = await plain.node(1, after=moment)
        saved.rename(plain.disk(2))
        console = plain.console(2)
        await plain.cluster.power(2, "on")
        await console.wait_for(f"node {original.id}")
        await console.wait_for("No heartbeat reaches the leader: another machine is this node")
        async with asyncio.timeout(BOOT_TIMEOUT_S):
            while not (found := two_machines(await plain.explained(original))):  # noqa: ASYNC110  # a leader elsewhere
                await asyncio.sleep(LOOK_AGAIN_S)
        addresses = (plain.cluster.rack.address(1), plain.cluster.rack.address(2))
        assert all(address in found[0].summary for address in addresses)
        assert "metroctl node delete" in found[0].remedy
        async with plain.connected() as cluster:
            listed = await nodes.list_nodes(cluster.channel, timeout_s=CALL_S)
        (shown,) = [node for node in listed if node.id == original.id]
        assert len(listed) == 2
        assert shown.health == Node.HEALTH_HEALTHY
        assert shown.status.external_address == addresses[0]
        assert "The leader hears this node's heartbeats" not in console.text

    asyncio.run(beside())
    saved = plain.disk(1).with_name("saved.raw")
    copy_disk(plain.disk(1), saved)
    plain.cluster.start()
    asyncio.run(scenario())


def labels_of(node: Node) -> dict[str, str]:
    return {pair.key: pair.value for pair in node.labels.pairs}


def two_machines(explained: explanation.Explanation) -> list[Finding]:
    return [each for each in explained.findings if each.code == "TWO_MACHINES"]


def copy_disk(source: Path, copy: Path) -> None:
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, copy], check=True)
