# SPDX-License-Identifier: Apache-2.0
"""Provisioning events: what a machine says it is doing, and how alive it is."""

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from metropolis.metal.store import Kind

LOG_SHOWN_MAX: Final = 20  # newest events that are kept with the state and answered
LOG_STORED_MAX: Final = 100


class Event(StrEnum):
    """The eleven events, as they are spelled on the wire."""

    ALIVE = "Alive"
    CRASHED = "Crashed"
    PXE_BOOTING = "PXE Booting"
    PLANNED_REBOOT = "Planned Reboot"
    PREPARING = "Preparing"
    REGISTERING = "Registering"
    WAITING = "Waiting"
    INSTALLING = "Installing"
    BOOTING_NEW_KERNEL = "Booting New Kernel"
    PHONED_HOME = "Phoned Home"
    MACHINE_RECLAIM = "Machine Reclaim"


Liveliness: TypeAlias = Literal["Alive", "Dead", "Unknown"]


class ProvisioningEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event.

    Attributes:
        time: Of arrival here: clocks of machines are not to be trusted.
        client_time: What the machine said.
    """

    event: str
    time: datetime
    message: str = ""
    client_time: datetime | None = None


class EventContainer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the events of one machine come to, under the machine's id.

    It is apart from the machine because it changes every minute, and beside everything else. What
    has no default is always written and stands first: lists pass the text on (`http.machine_text`).

    Attributes:
        log: The newest first, at most `LOG_SHOWN_MAX`; older ones are in the history.
        last_event_time: Of the newest sign of life, stored in the log or not.
    """

    id: str
    liveliness: Liveliness
    crash_loop: bool
    failed_machine_reclaim: bool
    log: tuple[ProvisioningEvent, ...]
    last_event_time: datetime | None = None
    last_error_event: ProvisioningEvent | None = None

    @property
    def newest(self) -> Event | None:
        """The state that the machine is in: its newest stored event."""
        return Event(self.log[0].event) if self.log else None


EVENTS = Kind(
    name="event",
    type=EventContainer,
    facets={
        "id": lambda each: (each.id,),
        "liveliness": lambda each: (each.liveliness,),
        "reclaim-failed": lambda each: (True,) if each.failed_machine_reclaim else (),
    },
)


class EventHistory(Struct, frozen=True, kw_only=True):
    """Every stored event of a machine, newest first, at most `LOG_STORED_MAX`."""

    log: tuple[ProvisioningEvent, ...]


EVENT_HISTORIES = Kind(name="event-history", type=EventHistory)


class RecentEventsResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Events as they are answered."""

    crash_loop: bool
    failed_machine_reclaim: bool
    log: tuple[ProvisioningEvent, ...]
    last_event_time: datetime | None = None
    last_error_event: ProvisioningEvent | None = None

    @classmethod
    def of(cls, container: EventContainer | None) -> "RecentEventsResponse":
        """Show a container; a machine without one has no events."""
        if container is None:
            return cls(crash_loop=False, failed_machine_reclaim=False, log=())
        return cls(
            crash_loop=container.crash_loop,
            failed_machine_reclaim=container.failed_machine_reclaim,
            log=container.log,
            last_event_time=container.last_event_time,
            last_error_event=container.last_error_event,
        )
