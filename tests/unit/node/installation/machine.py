# SPDX-License-Identifier: Apache-2.0
"""A machine with a medium in it, for the installer: disks, firmware, files."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from uuid import UUID

from kits.portable_executable import stub
from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.formats import pe, verity
from metropolis.formats.install_medium import (
    ENROLMENT,
    KERNEL,
    PARAMETERS,
    SETTINGS,
    MediumSettings,
    encode_settings,
)
from metropolis.host.disk_writing import write_table
from metropolis.image.media import MediumContent, medium_table, plan_medium
from metropolis.node.installation.medium import RunningSystem
from metropolis.node.installation.run import Done, run_installer
from metropolis.node.installation.target import DiskFacts
from unit.node.installation.firmware import Firmware, enrolment
from unit.node.installation.simulated_disk import SimulatedDisk

MIB = 1 << 20
SALT = bytes(32)


@cache
def system_image() -> tuple[bytes, RunningSystem]:
    """An image of 3 MiB and what its kernel's command line says."""
    data = b"".join(bytes([number]) * 4096 for number in range(1, 256)) * 3
    tree = verity.hash_tree([data], SALT)
    running = RunningSystem(root_hash=tree.root_hash, data_blocks=tree.data_blocks, salt=SALT)
    return data + tree.tree, running


@cache
def kernel_image() -> bytes:
    _, running = system_image()
    words = f"quiet metropolis.root={running.root_hash.hex()} panic=5\0"
    return pe.add_sections(stub(), [(".cmdline", words.encode())])


def parameters() -> bytes:
    return NodeParameters(
        cluster_bootstrap=NodeParameters.ClusterBootstrap(
            owner_public_key=bytes(32),
            initial_cluster_configuration=ClusterConfiguration(
                cluster_domain="cluster.internal",
                tpm_mode=ClusterConfiguration.TPM_MODE_REQUIRED,
                storage_security_policy=(
                    ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION
                ),
            ),
        )
    ).SerializeToString()


def settings(**changes: object) -> MediumSettings:
    image, running = system_image()
    made = MediumSettings(
        install_id=UUID(int=77),
        product="Metropolis Node 0.1.0",
        system_bytes=len(image),
        root_hash=running.root_hash,
        kernel_sha256=hashlib.sha256(kernel_image()).digest(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def medium_disk() -> SimulatedDisk:
    """The stick: the table and the system partition; its files are handed over as such."""
    content = MediumContent(
        settings=settings(), kernel=kernel_image(), parameters=b"", enrolment=enrolment()
    )
    disk = SimulatedDisk(128 * MIB)
    plan = plan_medium(content, device_bytes=disk.size_bytes)
    disk.pwrite(system_image()[0], plan.system_offset_bytes)
    write_table(disk, medium_table(plan, content.settings))
    return disk


@dataclass
class SimulatedMachine:
    """Implements what the installer needs of a machine."""

    variables: Firmware | None = field(default_factory=Firmware)
    targets: dict[str, tuple[DiskFacts, SimulatedDisk]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        stick = medium_disk()
        self.targets["/dev/sdz"] = (
            DiskFacts(
                device="/dev/sdz",
                size_bytes=stick.size_bytes,
                sector_bytes=512,
                is_removable=True,
                is_medium=True,
            ),
            stick,
        )
        self.files |= {
            SETTINGS: encode_settings(settings()),
            KERNEL: kernel_image(),
            PARAMETERS: parameters(),
            **{f"{ENROLMENT}/{name}.auth": data for name, data in enrolment().items()},
        }

    def add_disk(self, device: str = "/dev/vda", *, size_mib: int = 2400) -> SimulatedDisk:
        disk = SimulatedDisk(size_mib * MIB)
        facts = DiskFacts(device=device, size_bytes=disk.size_bytes, sector_bytes=512)
        self.targets[device] = (replace(facts, serial=f"of {device}"), disk)
        return disk

    def disks(self) -> list[DiskFacts]:
        return [facts for facts, _ in self.targets.values()]

    @contextmanager
    def open(self, device: str, *, writable: bool) -> Iterator[SimulatedDisk]:
        del writable
        yield self.targets[device][1]

    def read_file(self, path: str) -> bytes | None:
        return self.files.get(path)

    def say(self, line: str) -> None:
        self.said.append(line)

    def start(self) -> Done:
        """Start the medium, and the machine again afterwards."""
        assert self.variables is not None
        try:
            return run_installer(self, system_image()[1], say=self.say)
        finally:
            self.variables.restart()
            for _, disk in self.targets.values():
                disk.restart()
