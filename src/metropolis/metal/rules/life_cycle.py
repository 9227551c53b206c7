# SPDX-License-Identifier: Apache-2.0
"""Whose a machine is, and what may be done to it: every change of that, as a function of values.

                    take                    finish_installation
    nobody's ──────────────────► allocated ─────────────────────► installed
       ▲                             │ ▲   ◄────────────────────     │
       └────────── give_back ────────┘ └─ restore    install_again ──┘

The events (`provisioning`) tell what the machine itself does meanwhile; neither waits for the
other. Model checked in the tests: from every state that can be reached there is a way back.
"""

from typing import Final

from msgspec.structs import replace

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.machine import (
    Allocation,
    BootInfo,
    LedState,
    Machine,
    MachineState,
)
from metropolis.metal.model.machine_request import MachineStateRequest
from metropolis.metal.rules.layouts import is_reinstallable

FAILURE_LENGTH_MAX: Final = 2000


def check_takeable(machine: Machine) -> None:
    """Refuse a machine that nobody may get: whether it waits is its own affair, a lock is not.

    Raises:
        FailedPreconditionError: it is somebody's, locked, or did not register yet.
    """
    if machine.allocation is not None:
        raise FailedPreconditionError(
            f"machine {machine.id} is already allocated", remedy="Name another machine, or none."
        )
    if machine.state.value == "LOCKED":
        raise FailedPreconditionError(
            f"machine {machine.id} is locked: {machine.state.description}",
            remedy="Set its state first, or name another machine.",
        )
    if not machine.partition_id or not machine.size_id:
        raise FailedPreconditionError(
            f"machine {machine.id} did not register yet", remedy="Let it boot by PXE."
        )


def take(
    machine: Machine, allocation: Allocation, *, image_id: str, tags: tuple[str, ...]
) -> Machine:
    """Make a machine somebody's.

    Raises:
        FailedPreconditionError: nobody may get it.
    """
    check_takeable(machine)
    assert image_id, "an allocated machine has an image"
    return replace(machine, allocation=allocation, image_id=image_id, tags=tags, waiting=False)


def give_back(machine: Machine) -> Machine:
    """Make a machine nobody's; that is fine if it was so before.

    Raises:
        FailedPreconditionError: it is locked.
    """
    if machine.state.value == "LOCKED":
        raise FailedPreconditionError(
            f"machine is locked: {machine.state.description}",
            remedy="Set its state to nothing first.",
        )
    return replace(
        machine, allocation=None, image_id="", tags=(), waiting=False, ledstate=LedState()
    )


def install_again(
    machine: Machine, *, image_id: str, name: str | None = None, description: str | None = None
) -> Machine:
    """Have a machine installed once more, with an image that is known to be fit for it.

    Raises:
        InvalidArgumentError: it is nobody's, locked, or its layout wipes nothing.
    """
    allocation = machine.allocation
    if allocation is None:
        raise InvalidArgumentError(
            f"machine {machine.id} is not allocated", remedy="Allocate it with the image."
        )
    if machine.state.value == "LOCKED":
        raise InvalidArgumentError(
            f"machine is locked: {machine.state.description}",
            remedy="Set its state to nothing first.",
        )
    if allocation.layout is None or not is_reinstallable(allocation.layout):
        raise InvalidArgumentError(
            f"machine {machine.id} cannot be installed again: its layout wipes no disk",
            remedy="Free it and allocate a machine with a layout that has wipeonreinstall.",
        )
    again = replace(
        allocation,
        reinstall=True,
        succeeded=False,
        failure="",
        name=allocation.name if name is None else name,
        description=allocation.description if description is None else description,
    )
    return replace(machine, allocation=again, image_id=image_id)


def finish_installation(machine: Machine, boot_info: BootInfo) -> Machine:
    """An installer reported that it is done.

    Raises:
        FailedPreconditionError: the machine is nobody's.
    """
    allocation = _installing(machine)
    installed = replace(
        allocation,
        reinstall=False,
        succeeded=True,
        failure="",
        boot_info=replace(boot_info, image_id=machine.image_id),
    )
    return replace(machine, allocation=installed)


def fail_installation(machine: Machine, message: str) -> Machine:
    """An installer reported that it gave up: it is tried again at the next boot.

    Raises:
        FailedPreconditionError: the machine is nobody's.
    """
    allocation = _installing(machine)
    failure = (message or "the installation failed")[:FAILURE_LENGTH_MAX]
    return replace(machine, allocation=replace(allocation, succeeded=False, failure=failure))


def _installing(machine: Machine) -> Allocation:
    if machine.allocation is None:
        raise FailedPreconditionError(
            f"machine {machine.id} is not allocated", remedy="Let it boot by PXE again."
        )
    return machine.allocation


def restore(machine: Machine, *, primary_disk_wiped: bool) -> Machine | None:
    """Give up to install a machine again; None when its old system cannot boot any more."""
    allocation = machine.allocation
    if allocation is None or allocation.boot_info is None or primary_disk_wiped:
        return None
    restored = replace(allocation, reinstall=False, succeeded=True, failure="")
    return replace(machine, allocation=restored, image_id=allocation.boot_info.image_id)


def offer(machine: Machine) -> Machine:
    """Let a machine wait for being allocated; one that is allocated has nothing to wait for."""
    if machine.waiting or machine.allocation is not None:
        return machine
    return replace(machine, waiting=True)


def withdraw(machine: Machine) -> Machine:
    """Let a machine wait no longer."""
    return replace(machine, waiting=False) if machine.waiting else machine


def set_aside(machine: Machine, request: MachineStateRequest, *, issuer: str) -> Machine:
    """Reserve, lock or release a machine.

    Args:
        issuer: Who decides, by mail address.

    Raises:
        InvalidArgumentError: no reason is given.
    """
    if request.value and not request.description:
        raise InvalidArgumentError(
            "description: you must supply one", remedy="Say why the machine is set aside."
        )
    state = MachineState(
        value="RESERVED" if request.value == "TAINTED" else request.value,
        description=request.description or "",
        issuer=issuer if request.value else "",
        metal_hammer_version=machine.state.metal_hammer_version,
    )
    return replace(machine, state=state)
