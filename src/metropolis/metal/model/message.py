# SPDX-License-Identifier: Apache-2.0
"""Messages to waiting machines and to the partitions, as consumers of the original know them."""

from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct, field

ALLOCATION_TOPIC: Final = "allocation"


def machine_topic(partition_id: str) -> str:
    """The topic that the services of a partition read."""
    return f"{partition_id}-machine"


class Command(StrEnum):
    """What a BMC agent can do to a machine."""

    ON = "ON"
    OFF = "OFF"
    RESET = "RESET"
    CYCLE = "CYCLE"
    BIOS = "BIOS"
    DISK = "DISK"
    PXE = "PXE"
    REINSTALL = "REINSTALL"
    LED_ON = "LED-ON"
    LED_OFF = "LED-OFF"
    UPDATE_FIRMWARE = "UPDATE-FIRMWARE"


class EventType(StrEnum):
    """Why a message is sent."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    COMMAND = "command"


class AllocationEvent(Struct, frozen=True, kw_only=True):
    """That a machine was allocated: whoever waits for that may go on."""

    machine_id: str = field(name="old")


class FirmwareUpdate(Struct, frozen=True, kw_only=True):
    """Which firmware, and from where it can be had for a while."""

    kind: str
    url: str


class MachineCommand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to do with which machine. How to log in at its BMC is added on delivery.

    Attributes:
        command: Empty where the type of the message says it all.
    """

    target: str
    command: Command | Literal[""] = field(name="cmd", default="")
    firmware_update: FirmwareUpdate | None = field(name="firmwareupdate", default=None)


class MachineEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a partition has to do.

    Attributes:
        old: The machine that was freed or deleted.
        new: The machine that was created.
    """

    type: EventType
    old: str = ""
    new: str = ""
    command: MachineCommand | None = field(name="cmd", default=None)


def command_event(machine_id: str, command: Command) -> MachineEvent:
    """The message for a plain command."""
    return MachineEvent(
        type=EventType.COMMAND, command=MachineCommand(target=machine_id, command=command)
    )


def deletion_event(machine_id: str) -> MachineEvent:
    """The message for a machine that has to boot by PXE and begin anew."""
    return MachineEvent(
        type=EventType.DELETE, old=machine_id, command=MachineCommand(target=machine_id)
    )
