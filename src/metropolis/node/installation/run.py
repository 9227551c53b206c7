# SPDX-License-Identifier: Apache-2.0
"""One start of an install medium, from the first question to the restart of the machine.

What is printed says what is done before it is done. Nothing is asked.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from metropolis.base.errors import FailedPreconditionError, MetropolisError, chain
from metropolis.formats import gpt
from metropolis.formats.efi.load_option import LoadOption
from metropolis.host.disk_writing import WritableDisk, write_table
from metropolis.node.installation.boot_entry import (
    BootVariables,
    enter_first,
    forget_boots,
    slot_a_option,
    start_disk_next,
    start_next,
)
from metropolis.node.installation.disk import (
    MIB,
    DiskPlan,
    Progress,
    plan_disk,
    write_disk,
)
from metropolis.node.installation.inspection import inspect
from metropolis.node.installation.medium import Medium, RunningSystem, read_medium, verified_system
from metropolis.node.installation.secure_boot import (
    SecureBoot,
    enrol,
    judge_secure_boot,
    plan_enrolment,
    start_again_from_here,
)
from metropolis.node.installation.target import (
    BootInstalled,
    DiskFacts,
    Holding,
    Install,
    choose_disk,
    describe,
)

_PERCENT_STEP: Final = 20


class InstallerMachine(Protocol):
    """The machine under the installer."""

    @property
    def variables(self) -> BootVariables | None:
        """EFI variables; None: it was not started by UEFI."""
        ...

    def disks(self) -> Sequence[DiskFacts]:
        """Every disk, without what is on it; the medium marked as such."""
        ...

    def open(self, device: str, *, writable: bool) -> AbstractContextManager[WritableDisk]:
        """Open a disk.

        Raises:
            OSError: it cannot be opened; EBUSY if something uses it.
        """
        ...

    def read_file(self, path: str) -> bytes | None:
        """Read a file of the medium's FAT32 partition; None if it is not there."""
        ...


class Done(Enum):
    """Why the machine is to be started again."""

    ENROLLED = "Secure Boot keys were enrolled"
    INSTALLED = "the system was installed"
    FOUND = "a system was installed before"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """All disks with their content, and the partitions that exist."""

    disks: Sequence[DiskFacts]
    partition_guids: frozenset[UUID]


def run_installer(
    machine: InstallerMachine, system: RunningSystem, *, say: Callable[[str], None]
) -> Done:
    """Enrol keys, or install, or find that this was done. The caller starts the machine again.

    Args:
        say: Prints a line where people can see it.

    Raises:
        MetropolisError: this machine cannot be installed as it is; the remedy says what to do.
        OSError: a disk failed.
    """
    variables = machine.variables
    if variables is None:
        raise FailedPreconditionError(
            "Metropolis can only be installed on EFI-booted machines, this one is not",
            remedy="Switch the firmware from legacy (BIOS, CSM) to UEFI boot, and start again.",
        )
    medium = read_medium(machine.read_file, system)
    say(f"Installer of {medium.settings.product}")
    secure_boot = judge_secure_boot(variables, medium.enrolment)
    survey = _survey(machine, say)
    choice = choose_disk(
        survey.disks,
        install_id=medium.settings.install_id,
        wanted=medium.settings.disk,
        may_replace_node=medium.settings.may_replace_node,
    )
    is_node_kept = isinstance(choice, BootInstalled) and choice.disk.holding is Holding.NODE
    if secure_boot is SecureBoot.SETUP and not is_node_kept:  # new keys would lock a node's disk
        _enrol(variables, medium, say)
        return Done.ENROLLED
    if isinstance(choice, BootInstalled):
        _boot_installed(machine, variables, choice, survey, say)
        return Done.FOUND
    say("Secure Boot is on, with the keys of this medium.")
    plan = _write(machine, system, medium, choice, say)
    forget_boots(variables)
    _enter(
        variables, slot_a_option(plan.table(slot_a_guid=medium.settings.system_guid)), survey, say
    )
    say("Installation completed. Rebooting.")
    return Done.INSTALLED


def _enrol(variables: BootVariables, medium: Medium, say: Callable[[str], None]) -> None:
    keeps = medium.settings.keeps_vendor_keys
    say("The firmware is in Setup Mode: enrolling the Secure Boot keys of this medium.")
    updates = plan_enrolment(variables, medium.enrolment, keeps_vendor_keys=keeps)
    if keeps and len(updates) == len(medium.enrolment):
        say("The firmware names no keys of its maker that could be kept.")
    enrol(variables, updates)
    start_again_from_here(variables)
    say("Secure Boot keys enrolled. Rebooting to install with Secure Boot on.")


def _survey(machine: InstallerMachine, say: Callable[[str], None]) -> _Survey:
    disks: list[DiskFacts] = []
    guids: set[UUID] = set()
    for disk in machine.disks():
        if disk.is_medium:
            disks.append(disk)
            continue
        try:
            with machine.open(disk.device, writable=False) as device:
                found = inspect(_reader(device, disk), disk_bytes=disk.size_bytes)
        except OSError as cause:
            say(f"{disk.device} cannot be read: {cause.strerror or cause}; it is left alone.")
            disks.append(replace(disk, is_read_only=True))
            continue
        guids.update(found.partition_guids)
        disks.append(
            replace(disk, holding=found.holding, guid=found.guid, partitions=found.partitions)
        )
    return _Survey(disks=disks, partition_guids=frozenset(guids))


def _write(
    machine: InstallerMachine,
    system: RunningSystem,
    medium: Medium,
    choice: Install,
    say: Callable[[str], None],
) -> DiskPlan:
    plan = plan_disk(choice.disk.size_bytes, guids=choice.guids)
    source = next(disk for disk in machine.disks() if disk.is_medium)
    with machine.open(source.device, writable=False) as origin:
        say("Verifying the system image on the medium.")
        payload = verified_system(_reader(origin, source), system, disk_bytes=source.size_bytes)
        with machine.open(choice.disk.device, writable=True) as device:
            say(f"{describe(choice.disk)}; it is erased, since {choice.reason}.")
            say(f"Installing to {choice.disk.device}...")
            write_disk(
                device, plan, system=payload, esp_files=medium.esp_files, report=_percents(say)
            )
    return plan


def _enter(
    variables: BootVariables, option: LoadOption, survey: _Survey, say: Callable[[str], None]
) -> None:
    """Make the firmware start the new disk. Without an entry it starts EFI/BOOT/BOOTX64.EFI."""
    assert option.target is not None
    present = survey.partition_guids | {option.target.partition_guid}
    try:
        number = enter_first(variables, option, is_present=present.__contains__)
        start_next(variables, number)
    except MetropolisError as error:
        say(f"The firmware has no boot entry for this disk: {chain(error)}")
        say("Remove the medium now; if the disk does not start, choose it in the firmware's menu.")


def _boot_installed(
    machine: InstallerMachine,
    variables: BootVariables,
    choice: BootInstalled,
    survey: _Survey,
    say: Callable[[str], None],
) -> None:
    """Start what is there; finish what was interrupted after the disk was complete."""
    say(choice.reason)
    disk = choice.disk
    is_node = disk.holding is Holding.NODE
    with machine.open(disk.device, writable=not is_node) as device:
        table = gpt.decode(_reader(device, disk), disk_bytes=disk.size_bytes)
        if not is_node:
            write_table(device, table)  # its other half may have been torn
    if not is_node:
        _enter(variables, slot_a_option(table), survey, say)
    elif not start_disk_next(variables, table):
        say("Its boot entry is gone; the firmware finds the disk when the medium is removed.")
    say(f"Remove the medium. Rebooting from {disk.device}.")


def _reader(device: WritableDisk, disk: DiskFacts) -> Callable[[int, int], bytes]:
    """Read as codecs do it: what is behind the end is nothing, not an error."""

    def read(offset: int, size: int) -> bytes:
        size = min(size, disk.size_bytes - offset)
        return device.pread(size, offset) if size > 0 else b""

    return read


def _percents(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """Say a line for every step of progress."""
    said = 0

    def report(progress: Progress) -> None:
        nonlocal said
        percent = 100 * progress.done_bytes // progress.total_bytes
        if percent >= said + _PERCENT_STEP:
            said = percent - percent % _PERCENT_STEP
            say(f"{said} % of {progress.total_bytes // MIB} MiB")

    return report
