# SPDX-License-Identifier: Apache-2.0
"""Which machine somebody gets who does not care: reservations, then spreading over racks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Machines of one size in one partition that wait for a project.

    Attributes:
        used: Machines that the project has there, whatever they are for.
    """

    project_id: str
    amount: int
    used: int


def may_take(project_id: str, available: int, reservations: Iterable[Reserved]) -> bool:
    """Tell whether a project may have one of so many available machines.

    A project whose own reservation is not used up may; others only get what is left when every
    reservation is honoured.
    """
    outstanding = 0
    for each in reservations:
        free = max(0, each.amount - each.used)
        if each.project_id == project_id and free > 0:
            return available > 0
        outstanding += free
    return outstanding < available


def choose_racks(
    racks: Sequence[str], by_role: Mapping[str, int], by_tags: Mapping[str, int] | None
) -> list[str]:
    """Return the racks that a machine shall be taken from.

    Those with the fewest machines of the project in that role, unless that would put machines
    with the same placement tags together where they need not be.

    Args:
        racks: That have a machine to take, without doubles.
        by_role: By rack, how many machines of the project have the same role.
        by_tags: By rack, how many have any of the placement tags; None when none are given.
    """
    assert racks, "somebody looked whether there is a machine"
    fewest = _fewest(racks, by_role)
    if by_tags is None:
        return fewest
    apart = _fewest(racks, by_tags)
    return [rack for rack in fewest if rack in set(apart)] or apart


def _fewest(racks: Sequence[str], taken: Mapping[str, int]) -> list[str]:
    least = min(taken.get(rack, 0) for rack in racks)
    return [rack for rack in racks if taken.get(rack, 0) == least]
