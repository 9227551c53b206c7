# SPDX-License-Identifier: Apache-2.0
"""How much of a partition is free, and for whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metropolis.metal.model.counted import CountableMachine
from metropolis.metal.model.event import Event, EventContainer
from metropolis.metal.model.partition import ServerCapacity
from metropolis.metal.model.reservation import Reservation
from metropolis.metal.model.size import UNKNOWN_SIZE
from metropolis.metal.rules.reservations import use_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A machine of a partition.

    Attributes:
        faulty: It has an issue that somebody should look at.
    """

    machine: CountableMachine
    events: EventContainer
    faulty: bool

    @property
    def allocatable(self) -> bool:
        """Whether an allocation could choose it: the same as a search for candidates asks."""
        return self.machine.candidate and self.events.liveliness == "Alive"


@dataclass(slots=True)
class _Row:
    """What is counted of one size."""

    total: int = 0
    allocated: int = 0
    allocatable: int = 0
    phoned_home: int = 0
    waiting: int = 0
    other: list[str] = field(default_factory=list[str])
    faulty: list[str] = field(default_factory=list[str])
    by_project: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, server: Server) -> None:
        machine = server.machine
        self.total += 1
        if machine.allocation is not None:
            self.allocated += 1
            project = machine.allocation.project_id
            self.by_project[project] = self.by_project.get(project, 0) + 1
        elif server.allocatable:
            self.allocatable += 1
        if server.faulty:
            self.faulty.append(machine.id)
        match server.events.newest:
            case Event.PHONED_HOME:
                self.phoned_home += 1
            case Event.WAITING:
                self.waiting += 1
            case _:
                self.other.append(machine.id)


def capacity(
    servers: Iterable[Server], reservations: Iterable[Reservation], *, project_id: str = ""
) -> tuple[ServerCapacity, ...]:
    """Count the machines of one partition by size.

    Args:
        reservations: Those for this partition.
        project_id: For whom it is counted: what others reserved and do not use is not free.
    """
    rows: dict[str, _Row] = {}
    for server in servers:
        rows.setdefault(server.machine.size_id or UNKNOWN_SIZE, _Row()).count(server)
    reserved: dict[str, list[Reservation]] = {}
    for reservation in reservations:
        reserved.setdefault(reservation.size_id, []).append(reservation)
    return tuple(
        _capacity(size_id, rows.get(size_id, _Row()), reserved.get(size_id, []), project_id)
        for size_id in sorted(rows.keys() | reserved.keys())
    )


def _capacity(
    size_id: str, row: _Row, reservations: Iterable[Reservation], project_id: str
) -> ServerCapacity:
    amount = used = kept_back = 0
    for project, total in _by_project(reservations).items():
        use = use_of(total, row.by_project.get(project, 0))
        amount += use.reserved
        used += use.used
        if project != project_id:
            kept_back += use.remaining
    return ServerCapacity(
        size=size_id,
        total=row.total,
        phoned_home=row.phoned_home,
        waiting=row.waiting,
        other=len(row.other),
        other_machines=tuple(sorted(row.other)),
        allocated=row.allocated,
        allocatable=row.allocatable,
        free=max(row.allocatable - kept_back, 0),
        unavailable=row.total - row.allocated - row.allocatable,
        faulty=len(row.faulty),
        faulty_machines=tuple(sorted(row.faulty)),
        reservations=amount,
        used_reservations=used,
        remaining_reservations=amount - used,
    )


def _by_project(reservations: Iterable[Reservation]) -> Mapping[str, int]:
    """Sum up what each project reserved: one machine uses one reservation, not all of them."""
    amounts: dict[str, int] = {}
    for reservation in reservations:
        project = reservation.project_id
        amounts[project] = amounts.get(project, 0) + reservation.amount
    return amounts
