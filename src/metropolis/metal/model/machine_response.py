# SPDX-License-Identifier: Apache-2.0
"""What is answered about machines and firewalls."""

from datetime import datetime

from msgspec import Struct, field
from typing_extensions import override

from metropolis.metal.model.event import RecentEventsResponse
from metropolis.metal.model.hardware import Bios, Hardware
from metropolis.metal.model.image import ImageResponse
from metropolis.metal.model.ipmi import MachineIPMI
from metropolis.metal.model.machine import Allocation, LedState, MachineState
from metropolis.metal.model.partition import PartitionResponse
from metropolis.metal.model.size import SizeResponse


class MachineAllocation(Allocation, frozen=True, kw_only=True, omit_defaults=True):
    """An allocation as answered: the stored one, and its image."""

    image: ImageResponse | None = None


class MachineResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine as answered, with what it refers to."""

    id: str
    created: datetime
    changed: datetime
    hardware: Hardware
    bios: Bios
    state: MachineState
    ledstate: LedState
    tags: tuple[str, ...]
    events: RecentEventsResponse
    liveliness: str
    name: str = ""
    description: str = ""
    rack_id: str = field(name="rackid", default="")
    room_id: str = field(name="roomid", default="")
    partition: PartitionResponse | None = None
    size: SizeResponse | None = None
    allocation: MachineAllocation | None = None


class MachineIPMIResponse(MachineResponse, frozen=True, kw_only=True, omit_defaults=True):
    """A machine and its BMC. Whoever may not see secrets sees empty user and password."""

    ipmi: MachineIPMI


class MachineIpmiReportResponse(Struct, frozen=True, kw_only=True):
    """Which machines a report of BMCs made known, and which it updated."""

    created: tuple[str, ...]
    updated: tuple[str, ...]


class MachineConsolePasswordResponse(Struct, frozen=True, kw_only=True):
    """The password of the console user."""

    id: str
    name: str
    description: str
    console_password: str

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return f"MachineConsolePasswordResponse(id={self.id!r})"


class MachineIssue(Struct, frozen=True, kw_only=True):
    """A kind of issue that a machine can have."""

    id: str
    severity: str
    description: str
    details: str
    ref_url: str


class MachineIssueResponse(Struct, frozen=True, kw_only=True):
    """The issues of one machine, by id."""

    machine_id: str = field(name="machineid")
    issues: tuple[str, ...]


class Obstacle(Struct, frozen=True, kw_only=True):
    """Why a machine is not what people want it to be, and what to do."""

    reason: str
    remedy: str


class MachineExplanation(Struct, frozen=True, kw_only=True):
    """What a machine is up to.

    Attributes:
        verdict: `allocatable`, `in use`, or what it is instead, in a few words.
        obstacles: Empty if and only if it is allocatable, or in use.
    """

    machine_id: str = field(name="machineid")
    verdict: str
    obstacles: tuple[Obstacle, ...]
