# SPDX-License-Identifier: Apache-2.0
"""What every program of a machine takes for granted: mounts, drivers, files in /run."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import DataLossError, MetropolisError, NotFoundError
from metropolis.formats import module_list
from metropolis.host.linux.block_devices import FoundPartition, partitions_of, wait_partitions
from metropolis.host.linux.loopback import bring_loopback_up
from metropolis.host.linux.modules import load_module, loaded_modules, modaliases
from metropolis.host.linux.mounts import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    mount_device,
    mount_new,
    set_read_only,
)
from metropolis.node.boot.handover import Handover

MODULES: Final = Path("/usr/lib/modules")
RUN_FILES: Final = Path("/run/metropolis")
EPHEMERAL: Final = RUN_FILES / "ephemeral"
HOSTS: Final = RUN_FILES / "hosts"
STORE: Final = Path("/store")
ESP: Final = STORE / "esp"
DATA: Final = STORE / "data"
ESP_TYPE: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
ESP_OPTIONS: Final = "fmask=0177,dmask=0077,quiet,errors=remount-ro"
ESP_WAIT_S: Final = 10.0

_STRICT: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC
# Kind, place, flags, options; what a kernel lacks is left out, and what needs it says so.
_MOUNTS: Final = (
    ("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777,size=10%"),  # noqa: S108  # a mount point, not a file
    ("tmpfs", "/tmp", _STRICT, "mode=1777,size=20%"),  # noqa: S108  # a mount point, not a file
    ("cgroup2", "/sys/fs/cgroup", _STRICT, "nsdelegate,memory_recursiveprot"),
    ("pstore", "/sys/fs/pstore", _STRICT, ""),
    ("securityfs", "/sys/kernel/security", _STRICT, ""),
)
_SOON: Final = ("/usr/sbin/nft", "/usr/sbin/cryptsetup", "/usr/bin/etcd")
_FILES: Final = {
    HOSTS: "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    RUN_FILES / "resolv.conf": "",
}
# A driver makes devices that ask for further drivers: as deep as that goes.
_DRIVER_ROUNDS: Final = 4
_PARAMETERS: Final = {"bonding.ko": "max_bonds=0"}  # else it makes a bond0 that nobody asked for
_SETTINGS: Final = {
    "kernel/core_pattern": "",  # memory of ours holds keys
    "kernel/kptr_restrict": "2",
    "kernel/printk": "1 4 1 7",  # the console is ours; the log has what the kernel says
    "vm/max_map_count": "2147483647",  # charged to memory cgroups anyway
}


def prepare_early() -> None:
    """Make the mounts and files that need no driver."""
    for kind, place, flags, options in _MOUNTS:
        target = Path(place)
        try:
            target.mkdir(exist_ok=True)
            mount_new(kind, target, flags=flags, options=options)
        except (OSError, MetropolisError):
            continue
    EPHEMERAL.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in _FILES.items():
        path.write_text(text, encoding="ascii")
    (RUN_FILES / "machine-id").write_text(f"{os.getrandom(16).hex()}\n", encoding="ascii")
    for name, value in _SETTINGS.items():
        try:
            Path("/proc/sys", name).write_text(value, encoding="ascii")
        except OSError:
            continue
    bring_loopback_up()


def load_drivers() -> tuple[str, ...]:
    """Load the modules of this machine; return what the kernel refused, as sentences."""
    modules = module_list.decode((MODULES / "modules.json").read_bytes())
    buses = module_list.buses(modules)
    problems: list[str] = []
    # The kernel verifies a module whole before it finds out that it has it from the initrd.
    tried = {f"{name}.ko" for name in loaded_modules()}
    wanted = list(modules.boot)
    for _ in range(_DRIVER_ROUNDS):
        # Network cards first: their links take longest to come up.
        wanted = [*module_list.matching(modules, modaliases(buses)), *wanted]
        files = [each for each in module_list.files_to_load(modules, wanted) if each not in tried]
        if not files:
            break
        tried.update(files)
        wanted = []
        problems += _load_modules(files)
    return tuple(problems)


def _load_modules(files: Sequence[str]) -> Iterator[str]:
    """Load them in this order; yield what the kernel refused, as sentences."""
    for name in files:
        try:
            load_module(MODULES / name, _PARAMETERS.get(name, ""))
        except MetropolisError as error:
            yield str(error)


def mount_esp(handover: Handover) -> FoundPartition:
    """Mount the EFI system partition that this system was started from at /store/esp.

    Raises:
        NotFoundError: the disk has none.
        DataLossError: it cannot be mounted.
    """
    partition = _find_esp(handover)
    target = ESP
    mount_new("tmpfs", STORE, flags=_STRICT, options="mode=700,size=1m")
    target.mkdir(mode=0o700)
    DATA.mkdir(mode=0o700)
    set_read_only(STORE)  # what is written before the disk is open must fail, not vanish
    try:
        mount_device(partition.device, target, "vfat", flags=_STRICT, options=ESP_OPTIONS)
    except MetropolisError as cause:
        raise DataLossError(
            f"the EFI system partition {partition.device} is damaged",
            remedy="Delete this node with `metroctl node delete` and install the machine again; "
            "if it happens again, replace the disk.",
        ) from cause
    return partition


def warm_up() -> None:
    """Have the kernel read, unpack and verify the programs that are started next.

    The pages of a program that is started cold are asked for one by one.
    """
    for name in _SOON:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _find_esp(handover: Handover) -> FoundPartition:
    if handover.boot_guid is not None:
        found = wait_partitions(handover.boot_guid, timeout_s=ESP_WAIT_S)
        if found:
            return found[0]
    for partition in partitions_of(handover.system_partition.disk):
        if partition.type_guid == ESP_TYPE:
            return partition
    raise NotFoundError(
        f"the disk {handover.system_partition.disk} has no EFI system partition",
        remedy="Install this machine again.",
    )
