# SPDX-License-Identifier: Apache-2.0
"""Size reservations: machines of a size that wait for one project."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, field

from metropolis.metal.store import Kind, Stored

ReservedAmount: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]  # judged by a rule


class Reservation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reservation as it is stored.

    Attributes:
        amount: Machines in each of the partitions.
    """

    size_id: str = field(name="sizeid")
    project_id: str = field(name="projectid")
    partition_ids: tuple[str, ...] = field(name="partitionids")
    amount: int
    name: str = ""
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])


RESERVATIONS = Kind(
    name="size-reservation",
    type=Reservation,
    facets={
        "size": lambda reservation: (reservation.size_id,),
        "project": lambda reservation: (reservation.project_id,),
        "partition": lambda reservation: reservation.partition_ids,
    },
)


class SizeReservationCreateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createSizeReservation` takes; without an id it gets a new one."""

    id: str | None = None
    size_id: str = field(name="sizeid")
    project_id: str = field(name="projectid")
    partition_ids: tuple[str, ...] = field(name="partitionids")
    amount: ReservedAmount
    name: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


class SizeReservationUpdateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateSizeReservation` takes; what is absent stays, `{}` clears the labels."""

    id: str
    amount: ReservedAmount | None = None
    partition_ids: tuple[str, ...] | None = field(name="partitionids", default=None)
    name: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


class SizeReservationListRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for; what is absent matches everything."""

    id: str | None = None
    size_id: str | None = field(name="sizeid", default=None)
    project_id: str | None = field(name="projectid", default=None)
    partition_id: str | None = field(name="partitionid", default=None)


class SizeReservationResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reservation on the wire."""

    id: str
    name: str
    description: str
    size_id: str = field(name="sizeid")
    project_id: str = field(name="projectid")
    partition_ids: tuple[str, ...] = field(name="partitionids")
    amount: int
    labels: dict[str, str]
    created: datetime | None = None
    changed: datetime | None = None

    @classmethod
    def of(cls, reservation: Stored[Reservation]) -> "SizeReservationResponse":
        """Show a stored reservation."""
        value = reservation.value
        return cls(
            id=reservation.id,
            name=value.name,
            description=value.description,
            size_id=value.size_id,
            project_id=value.project_id,
            partition_ids=value.partition_ids,
            amount=value.amount,
            labels=value.labels,
            created=reservation.created,
            changed=reservation.changed,
        )


class SizeReservationUsageResponse(Struct, frozen=True, kw_only=True):
    """How much of a reservation is used in one partition.

    Attributes:
        used_amount: Of the reserved machines.
        project_allocations: Machines of the project, size and partition, reserved or not.
    """

    id: str
    name: str
    description: str
    size_id: str = field(name="sizeid")
    project_id: str = field(name="projectid")
    partition_id: str = field(name="partitionid")
    amount: int
    used_amount: int = field(name="usedamount")
    project_allocations: int = field(name="projectallocations")
    labels: dict[str, str]
