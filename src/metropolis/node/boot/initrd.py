# SPDX-License-Identifier: Apache-2.0
"""The first program: finds the system partition, verifies it, and becomes process 1 on it.

/init of the initrd is two lines: it puts /usr/lib/metropolis on the path and calls `main`. The
interpreter is not started a second time: after the chroot the same process imports
`metropolis.node.boot.machine` from the verified file system.

Beside the interpreter the initrd holds what importing this module loads, the kernel modules of
boot disks and their list, /usr/lib/modules/initrd.json (`metropolis.formats.module_list`).
"""

import _thread
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from metropolis.base.errors import DataLossError, MetropolisError, NotFoundError
from metropolis.formats import module_list
from metropolis.host.linux.block_devices import FoundPartition, wait_partitions
from metropolis.host.linux.boot_clock import rest, seconds_since_kernel_start
from metropolis.host.linux.device_mapper import VerityTable, open_verity
from metropolis.host.linux.efi_variables import (
    LOADER_GUID,
    PLACE,
    LinuxEfiVariables,
    read_text,
)
from metropolis.host.linux.kernel_power import restart
from metropolis.host.linux.modules import load_module, modaliases
from metropolis.host.linux.mounts import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    enter_root,
    mount_device,
    mount_new,
    move_mount,
)
from metropolis.host.linux.watchdog import arm_watchdog
from metropolis.node.boot.command_line import RootDescription, describe_root, parse_command_line
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.last_words import give_up, print_everywhere
from metropolis.node.boot.timeline import Timeline
from metropolis.node.slots.firmware import SlotKeeper, slot_of_partition, started_slot
from metropolis.node.slots.lifecycle import Order
from metropolis.node.slots.model import Slot

MODULES: Final = Path("/usr/lib/modules")
STUB_FILES: Final = Path("/.extra")  # what the stub unpacked beside the initrd
RUN_FILES: Final = Path("/run/metropolis")
NEW_ROOT: Final = Path("/root")
ROOT_DEVICE: Final = "system"
DISK_WAIT_S: Final = 30.0  # USB and SAS disks take their time
WATCHDOG_S: Final = 60  # of silence; a slow disk makes process 1 wait for seconds, not for a minute
_LOOK_AGAIN_S: Final = 0.05
_QUICK_DRIVERS: Final = ("nvme", "virtio_blk")  # they have their disks when they are loaded
PROGRAM: Final = "metropolis.node.boot.machine"
_SYSTEM_MOUNTS: Final = (
    ("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("tmpfs", "/run", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=20%"),
)
_MOVED: Final = ("/dev", "/proc", "/sys", "/run")


def main() -> NoReturn:
    """Boot, or say why not and start again. Never returns."""
    timeline = Timeline()
    try:
        gc.disable()  # nothing here is garbage, and looking for it takes a tenth of the time
        _open_console()
        timeline.mark("kernel")  # it took until here
        handover = _mount_root(timeline)
        importlib.import_module(PROGRAM).main(handover)
    except BaseException as error:  # noqa: BLE001  # process 1 must not end
        give_up(error, doing="boot")
    give_up(RuntimeError("process 1 returned"), doing="boot")


def _open_console() -> None:
    """Mount /dev; the kernel gave us no console if the initrd has no node for it."""
    Path("/dev").mkdir(exist_ok=True)
    mount_new("devtmpfs", Path("/dev"), flags=MS_NOSUID | MS_NOEXEC, options="mode=755")
    descriptor = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    for number in range(3):
        if number != descriptor:
            os.dup2(descriptor, number)
    for kind, target, flags, options in _SYSTEM_MOUNTS:
        Path(target).mkdir(exist_ok=True)
        mount_new(kind, Path(target), flags=flags, options=options)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115  # open as long as the machine runs
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115  # open as long as the machine runs


def _mount_root(timeline: Timeline) -> Handover:
    options = parse_command_line(Path("/proc/cmdline").read_text(encoding="utf-8"))
    root = describe_root(options)
    modules = module_list.decode((MODULES / "initrd.json").read_bytes())
    _load(modules, modules.boot)
    watchdog = arm_watchdog(WATCHDOG_S)
    boot_guid, slot = _firmware()
    slots = _keeper(boot_guid, slot, is_fallback=False)
    notes = [] if slots is None else _count_start(slots)
    partition = _system_partition(root, modules, boot_guid=boot_guid)
    if slots is None:  # the firmware has forgotten its entries, or this is an install medium
        slots = _keeper(boot_guid, slot_of_partition(partition.label), is_fallback=True)
        notes = [] if slots is None else _count_start(slots)
    timeline.mark("disk")
    table = VerityTable(
        device=partition.device,
        data_blocks=root.data_blocks,
        root_hash=root.root_hash,
        salt=root.salt,
    )
    device = open_verity(ROOT_DEVICE, table)
    NEW_ROOT.mkdir(exist_ok=True)
    try:
        mount_device(device, NEW_ROOT, "erofs", flags=MS_RDONLY | MS_NODEV)
    except MetropolisError as cause:
        raise DataLossError(
            f"the system partition {partition.device} is damaged",
            remedy="Start the other slot from the firmware's menu, or install this machine again.",
        ) from cause
    _keep_stub_files()
    _switch_root()
    timeline.mark("root")
    return Handover(
        timeline=timeline,
        options=options,
        system_partition=partition,
        boot_guid=boot_guid,
        slots=slots,
        watchdog=watchdog,
        notes=notes,
    )


def _load(modules: module_list.ModuleList, names: Sequence[str]) -> None:
    for name in module_list.files_to_load(modules, names):
        load_module(MODULES / name)


def _firmware() -> tuple[str | None, Slot | None]:
    """Ask the firmware what it has started.

    Returns:
        The GUID of the partition that it loaded the kernel from, as the stub tells it, and the slot
        whose kernel this was. Machines that were started without UEFI know neither.
    """
    if not PLACE.is_dir():
        return None, None
    try:
        mount_new("efivarfs", PLACE, flags=MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except MetropolisError:
        return None, None
    variables = LinuxEfiVariables()
    guid = read_text(variables.read("LoaderDevicePartUUID", LOADER_GUID))
    slot = started_slot(read_text(variables.read("LoaderImageIdentifier", LOADER_GUID)))
    return (None, None) if guid is None else (guid.lower(), slot)


def _keeper(boot_guid: str | None, slot: Slot | None, *, is_fallback: bool) -> SlotKeeper | None:
    if boot_guid is None or slot is None:
        return None
    variables = LinuxEfiVariables()
    return SlotKeeper(variables, esp_guid=boot_guid, slot=slot, is_fallback=is_fallback)


def _count_start(slots: SlotKeeper) -> list[str]:
    """Count this boot before anything else of it runs; start the other slot if it is its turn."""
    try:
        step = slots.count_start()
    except MetropolisError as error:
        return [f"This start was not counted: {error}"]
    if step.order is Order.START_OTHER_NOW:
        print_everywhere(f"{step.sentence}\r\n")
        restart()
    return [step.sentence] if step.sentence else []


def _system_partition(
    root: RootDescription, modules: module_list.ModuleList, *, boot_guid: str | None
) -> FoundPartition:
    """Find the partition whose GUID is our root hash, on the disk that the kernel came from.

    Drivers are loaded one by one until it is there: the AHCI driver alone waits half a second for
    ports without a disk. What a driver finds may need another one: a stick has its controller's,
    its own and that of disks. Another disk may hold the same image; it serves only when the one
    that we came from does not appear.

    Raises:
        NotFoundError: no disk has it.
    """
    buses = module_list.buses(modules)
    loaded: set[str] = set()
    found: Sequence[FoundPartition] = ()
    deadline_s = seconds_since_kernel_start() + DISK_WAIT_S
    while seconds_since_kernel_start() < deadline_s:
        wanted = module_list.matching(modules, modaliases(buses))
        new = sorted(set(wanted) - loaded, key=lambda each: (each not in _QUICK_DRIVERS, each))
        if new:
            _load(modules, new[:1])
            loaded.add(new[0])
        else:
            rest(_LOOK_AGAIN_S)
        found = wait_partitions(root.partition_guid, timeout_s=0)
        if found and boot_guid is None:
            break
        chosen = _on_boot_disk(found, boot_guid or "")
        if chosen is not None:
            return chosen
    if not found:
        raise NotFoundError(
            f"no disk has the system partition {root.partition_guid}, after {DISK_WAIT_S:.0f} s",
            remedy="Check the disk and its cable, or install this machine again.",
        )
    return found[0]


def _on_boot_disk(found: Sequence[FoundPartition], boot_guid: str) -> FoundPartition | None:
    """Return the partition that is on the same disk as the one we were loaded from."""
    if not found:
        return None
    boot_disks = [each.disk for each in wait_partitions(boot_guid, timeout_s=0)]
    return next((each for each in found if each.disk in boot_disks), None)


def _keep_stub_files() -> None:
    """Keep the signed TPM policy: the initrd is gone after the switch."""
    RUN_FILES.mkdir(exist_ok=True)
    try:
        files = sorted(STUB_FILES.iterdir())
    except OSError:
        return
    for path in files:
        if path.is_file():
            (RUN_FILES / path.name).write_bytes(path.read_bytes())


def _switch_root() -> None:
    """Move to the verified file system, and free the memory that the initrd's files take."""
    old_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for place in _MOVED:
        move_mount(Path(place), NEW_ROOT / place[1:])
    enter_root(NEW_ROOT)
    # Beside the rest of the boot: it takes a third of a second, mostly in the kernel.
    _thread.start_new_thread(_free, (old_root,))
    # invalidate_caches() would do, but imports importlib.metadata for it: a quarter of a second.
    sys.path_importer_cache.clear()


def _free(old_root: int) -> None:
    try:
        _remove_files(old_root, device=os.fstat(old_root).st_dev)
    except OSError:
        return  # it costs some memory
    finally:
        os.close(old_root)


def _remove_files(directory: int, *, device: int) -> None:
    """Remove everything below an open directory that lies on the same file system."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.fstat(child).st_dev != device:
                continue
            _remove_files(child, device=device)
        finally:
            os.close(child)
        os.rmdir(name, dir_fd=directory)
