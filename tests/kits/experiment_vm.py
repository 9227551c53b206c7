# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that runs a piece of Python inside the system image, instead of a node.

No firmware: QEMU loads the image's kernel and initrd itself, and a second initrd puts another first
program over the image's own. It mounts the verified root as always, loads the drivers, and runs the
experiment as process 1; disks behind the first are the experiment's own.
"""

import json
import stat
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from metropolis.formats import cpio, gpt, pe

SECTOR = 512
FIRST_LBA = 2048
BEGIN, END = "---- experiment", "---- end of experiment"

# The kernel's first program: what the image's own does, until its process 1 would begin.
INIT = f"""\
#!/usr/bin/python3.13 -IS
import sys
sys.path.append("/usr/lib/metropolis")
from metropolis.node.boot.ready_modules import offer
offer("initrd")
source = open("/experiment.py").read()
from metropolis.node.boot import initrd
from metropolis.node.boot.timeline import Timeline
import traceback
try:
    initrd._open_console()
    initrd._mount_root(Timeline())
    from metropolis.node.boot import userland
    userland.prepare_early()
    print("drivers:", userland.load_drivers())
    print("{BEGIN}")
    exec(compile(source, "experiment", "exec"), {{"__name__": "__main__"}})
    print("{END}: done")
except BaseException:
    traceback.print_exc()
    print("{END}: failed")
import time, os
if "cut" not in globals():
    from metropolis.host.linux.kernel_power import power_off
    sys.stdout.flush()
    power_off()
"""


@dataclass(frozen=True)
class Report:
    """What an experiment printed, and how long its machine ran."""

    printed: str
    is_done: bool
    took_s: float


class ExperimentVm:
    """Prepares once what all experiments with one image share."""

    def __init__(self, image: Path, directory: Path) -> None:
        self._directory = directory
        facts = json.loads((image / "image.json").read_text())
        sections = pe.sections((image / "kernel.efi").read_bytes())
        (directory / "vmlinuz").write_bytes(sections[".linux"])
        self._initrd = sections[".initrd"]
        self._command_line = facts["command_line"]
        self._write_system_disk((image / "system.img").read_bytes(), facts["root_hash"])

    def run(
        self,
        source: str,
        disks: Sequence[Path] = (),
        *,
        networks: Sequence[str] = (),
        timeout_s: float = 120,
    ) -> Report:
        """Run an experiment to its end.

        Args:
            networks: What each network card is plugged into, as QEMU's -netdev without an id.
        """
        extra = cpio.build(
            [
                cpio.CpioEntry(path="init", mode=stat.S_IFREG | 0o755, data=INIT.encode()),
                cpio.CpioEntry(
                    path="experiment.py", mode=stat.S_IFREG | 0o644, data=source.encode()
                ),
            ]
        )
        initrd = self._directory / "initrd"
        initrd.write_bytes(self._initrd + bytes(-len(self._initrd) % 4) + extra)
        started_s = time.monotonic()
        finished = subprocess.run(
            [*self._argv(initrd, disks), *_cards(networks)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
        printed = finished.stdout.decode(errors="replace").replace("\r\n", "\n")
        return Report(
            printed=printed.partition(BEGIN)[2] or printed,
            is_done=f"{END}: done" in printed,
            took_s=time.monotonic() - started_s,
        )

    def _argv(self, initrd: Path, disks: Sequence[Path]) -> list[str]:
        # fmt: off
        argv = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi",
            "-cpu", "max,-cx16", "-smp", "1", "-m", "1024", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-chardev", "stdio,id=c,signal=off",
            "-serial", "chardev:c", "-device", "virtio-rng-pci",
            "-kernel", str(self._directory / "vmlinuz"), "-initrd", str(initrd),
            "-append", self._command_line,
        ]
        # fmt: on
        for number, disk in enumerate([self._directory / "system.raw", *disks]):
            read_only = "on" if number == 0 else "off"
            drive = f"if=none,id=d{number},format=raw,file={disk},discard=unmap"
            argv += ["-drive", f"{drive},readonly={read_only}"]
            argv += ["-device", f"virtio-blk-pci,drive=d{number}"]
        return argv

    def _write_system_disk(self, image: bytes, root_hash: str) -> None:
        sectors = -(-len(image) // SECTOR)
        table = gpt.PartitionTable(
            disk_guid=UUID(int=1),
            disk_sectors=FIRST_LBA + sectors + 2048,
            partitions=(
                gpt.DiskPartition(
                    type_guid=gpt.SYSTEM_A_TYPE,
                    guid=UUID(root_hash[:32]),
                    name=gpt.SYSTEM_A_NAME,
                    first_lba=FIRST_LBA,
                    last_lba=FIRST_LBA + sectors - 1,
                ),
            ),
        )
        encoded = gpt.encode(table)
        with (self._directory / "system.raw").open("wb") as file:
            file.write(encoded.primary)
            file.seek(FIRST_LBA * SECTOR)
            file.write(image)
            file.seek(encoded.backup_lba * SECTOR)
            file.write(encoded.backup)


def _cards(networks: Sequence[str]) -> list[str]:
    argv: list[str] = []
    for number, network in enumerate(networks):
        argv += ["-netdev", f"{network},id=net{number}"]
        # LACP joins cards of one known speed only.
        speed = "speed=10000,duplex=full"
        argv += ["-device", f"virtio-net-pci,{speed},netdev=net{number},romfile="]
    return argv
