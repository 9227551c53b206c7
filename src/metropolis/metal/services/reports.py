# SPDX-License-Identifier: Apache-2.0
"""What an installer reports when it is done, or gave up."""

from dataclasses import dataclass, field

from typing_extensions import override

from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS, ConsolePassword
from metropolis.metal.model.machine import MACHINES, BootInfo, Machine
from metropolis.metal.model.message import Command, command_event
from metropolis.metal.rules.life_cycle import fail_installation, finish_installation, restore
from metropolis.metal.services.connections import set_machine_vrf
from metropolis.metal.services.freeing import vrf_of
from metropolis.metal.services.machines import put, tell_partition
from metropolis.metal.store import Stored, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What became of an installation.

    Attributes:
        message: Why it failed.
    """

    machine_id: str
    success: bool
    message: str = ""
    console_password: str = ""
    boot_info: BootInfo = field(default_factory=BootInfo)

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return f"InstallReport(machine_id={self.machine_id!r}, success={self.success})"


async def report(tx: Transaction, done: InstallReport) -> Stored[Machine]:
    """Write down how an installation ended; after a success the machine boots from its disk.

    After a failure everything stays as it is: the machine boots the installer again.

    Raises:
        NotFoundError: there is no such machine.
        FailedPreconditionError: it is not allocated.
    """
    machine = await tx.get(MACHINES, done.machine_id)
    if not done.success:
        return await put(tx, machine, fail_installation(machine.value, done.message))
    changed = await put(tx, machine, finish_installation(machine.value, done.boot_info))
    await _keep_password(tx, done)
    await set_machine_vrf(tx, done.machine_id, vrf_of(changed.value))
    await tell_partition(tx, machine.value, command_event(done.machine_id, Command.DISK))
    return changed


async def _keep_password(tx: Transaction, done: InstallReport) -> None:
    password = ConsolePassword(password=done.console_password)
    stored = await tx.lookup(CONSOLE_PASSWORDS, done.machine_id)
    if stored is None:
        await tx.insert(CONSOLE_PASSWORDS, done.machine_id, password)
    else:
        await tx.replace(stored, password)


async def abort_reinstall(
    tx: Transaction, machine_id: str, *, primary_disk_wiped: bool
) -> BootInfo | None:
    """Give up installing a machine again, and return how its old system boots if it still can.

    Raises:
        NotFoundError: there is no such machine.
    """
    machine = await tx.get(MACHINES, machine_id)
    restored = restore(machine.value, primary_disk_wiped=primary_disk_wiped)
    if restored is not None:
        await put(tx, machine, restored)
        await set_machine_vrf(tx, machine_id, vrf_of(restored))
    await tell_partition(tx, machine.value, command_event(machine_id, Command.DISK))
    if restored is None or restored.allocation is None:
        return None
    return restored.allocation.boot_info
