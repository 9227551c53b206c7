# SPDX-License-Identifier: Apache-2.0
"""What a machine is up to, said so that somebody can act: no machine is stuck without a reason."""

from typing import Final

from metropolis.metal.model.event import Event, EventContainer
from metropolis.metal.model.machine import Allocation, Machine
from metropolis.metal.model.machine_response import MachineExplanation, Obstacle
from metropolis.metal.model.size import UNKNOWN_SIZE

ALLOCATABLE: Final = "allocatable"
IN_USE: Final = "in use"

# What an unallocated machine does next, by its newest event, as long as it is alive.
_ON_ITS_WAY: Final[dict[Event, str]] = {
    Event.PXE_BOOTING: "it loads the discovery image",
    Event.PREPARING: "it wipes its disks and looks at its hardware",
    Event.REGISTERING: "it registers",
    Event.WAITING: "it says that it waits, but nobody listens to it at the moment",
    Event.PLANNED_REBOOT: "it reboots because somebody wanted that",
    Event.MACHINE_RECLAIM: "it was freed and has to boot anew",
    Event.INSTALLING: "it installs an operating system for nobody",
    Event.BOOTING_NEW_KERNEL: "it boots an operating system for nobody",
    Event.CRASHED: "it crashed",
    Event.PHONED_HOME: "it runs the system of its last owner",
}


def explain(
    machine: Machine, events: EventContainer | None, *, reachable: bool
) -> MachineExplanation:
    """Say what a machine is, and if it is neither allocatable nor in use, why and what to do.

    Args:
        reachable: Its BMC is known, so that power commands arrive.
    """
    if machine.allocation is None:
        verdict, obstacles = _of_nobody(machine, events)
    else:
        verdict, obstacles = _of_somebody(machine, machine.allocation, events)
    if obstacles and not reachable:
        obstacles.append(
            Obstacle(
                reason="its BMC is not known, so power commands reach nobody",
                remedy="Check the cable of the BMC and the BMC agent of the partition.",
            )
        )
    return MachineExplanation(machine_id=machine.id, verdict=verdict, obstacles=tuple(obstacles))


def _of_nobody(machine: Machine, events: EventContainer | None) -> tuple[str, list[Obstacle]]:
    found = _set_aside(machine)
    if not machine.partition_id or not machine.size_id:
        found.append(
            Obstacle(
                reason="it never registered",
                remedy="Let it boot by PXE: `metalctl machine power pxe`, then `cycle`.",
            )
        )
    elif machine.size_id == UNKNOWN_SIZE:
        found.append(
            Obstacle(
                reason="its hardware is of no size, or of several",
                remedy="See `metalctl size suggest`, create or change a size, and reboot it.",
            )
        )
    silence = _silence(events, allocated=False)
    if silence is not None:
        found.append(silence)
    elif events is not None and not machine.waiting:
        found.append(_not_waiting(events))
    return (ALLOCATABLE, []) if not found else ("not allocatable", found)


def _set_aside(machine: Machine) -> list[Obstacle]:
    state = machine.state
    if not state.value:
        return []
    by = f" by {state.issuer}" if state.issuer else ""
    what = "locked" if state.value == "LOCKED" else "reserved"
    return [
        Obstacle(
            reason=f"it was {what}{by}: {state.description}",
            remedy="Set its state back when that is over: "
            f"`metalctl machine {'lock' if state.value == 'LOCKED' else 'reserve'} --remove`.",
        )
    ]


def _silence(events: EventContainer | None, *, allocated: bool) -> Obstacle | None:
    if events is not None and events.liveliness == "Alive":
        return None
    if events is None or events.last_event_time is None:
        return Obstacle(
            reason="nothing was ever heard of it",
            remedy="Switch it on, and let it boot by PXE.",
        )
    since = f"nothing was heard of it since {events.last_event_time:%Y-%m-%d %H:%M:%S} UTC"
    if allocated:
        return Obstacle(
            reason=since,
            remedy="Ask its owner whether it is up, and see whether its switches report.",
        )
    return Obstacle(
        reason=since,
        remedy="It is reset an hour after its last event; if that does not help, see its console.",
    )


def _not_waiting(events: EventContainer) -> Obstacle:
    newest = events.newest
    if events.failed_machine_reclaim or newest in {
        Event.PHONED_HOME,
        Event.INSTALLING,
        Event.BOOTING_NEW_KERNEL,
    }:
        return Obstacle(
            reason="it still runs what it was freed from",
            remedy="Free it once more; if that does not help, reset it to PXE by hand.",
        )
    doing = "it said nothing of what it does" if newest is None else _ON_ITS_WAY[newest]
    if events.crash_loop:
        error = events.last_error_event
        why = f" ({error.message})" if error is not None and error.message else ""
        return Obstacle(
            reason=f"it starts again and again{why}; now {doing}",
            remedy="Look at its console and its events, and reset it when the cause is found.",
        )
    return Obstacle(
        reason=doing, remedy="Wait some minutes; if it stays so, look at its console and cycle it."
    )


def _of_somebody(
    machine: Machine, allocation: Allocation, events: EventContainer | None
) -> tuple[str, list[Obstacle]]:
    newest = None if events is None else events.newest
    found: list[Obstacle] = []
    silence = _silence(events, allocated=True)
    if silence is not None:
        found.append(silence)
    if allocation.failure:
        found.append(
            Obstacle(
                reason=f"its installation failed: {allocation.failure}",
                remedy="It is tried again at its next boot; choose another image, or free it.",
            )
        )
    if allocation.reinstall:
        found.append(
            Obstacle(
                reason=f"it is to be installed again with {machine.image_id}",
                remedy="Wait until it has booted by PXE; cycle it if it does not.",
            )
        )
    elif not allocation.succeeded and not allocation.failure:
        found.append(
            Obstacle(
                reason=f"it is not installed yet; its newest event is {newest or 'none'}",
                remedy="Wait some minutes; if it stays so, look at its console and cycle it.",
            )
        )
    elif allocation.succeeded and newest is not Event.PHONED_HOME and silence is None:
        found.append(
            Obstacle(
                reason=f"it is installed and did not phone home; its newest event is {newest}",
                remedy="Wait some minutes; if it stays so, look at its console.",
            )
        )
    if not found:
        return IN_USE, []
    return ("allocated, not in use yet" if not allocation.succeeded else "allocated"), found
