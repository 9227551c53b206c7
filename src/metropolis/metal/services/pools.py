# SPDX-License-Identifier: Apache-2.0
"""Machines that wait, counted by rack without reading any of them."""

from collections.abc import Mapping, Sequence

from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.machine import MACHINES, Machine, pool_of
from metropolis.metal.store import Reader, Stored

# What is alive is not looked for but what is not: it is little, or everything else stands still.
_BY_RACK = (
    "SELECT f.value, count(*) FROM facet f WHERE f.kind = $1 AND f.name = 'pool'"
    " AND substr(f.value, 1, $2) = $3 AND f.id NOT IN ("
    "SELECT s.id FROM facet s WHERE s.kind = $4 AND s.name = 'liveliness'"
    " AND s.value IN ('Dead', 'Unknown')) GROUP BY f.value ORDER BY f.value"
)
_AMONG = (
    "AND f.id IN (SELECT x.id FROM facet x"
    " WHERE x.kind = $1 AND x.name = ${name} AND x.value {values})"
)


async def available_by_rack(reader: Reader, partition_id: str, size_id: str) -> dict[str, int]:
    """Return how many machines of a pool may be allocated, for each rack that has one."""
    prefix = pool_of(partition_id, size_id)
    rows = await reader.fetch(_BY_RACK, MACHINES.name, len(prefix), prefix, EVENTS.name)
    return {str(value)[len(prefix) :]: int(count) for value, count in rows}


async def available_in(
    reader: Reader, partition_id: str, size_id: str, rack_id: str
) -> list[Stored[Machine]]:
    """Return the machines of a rack that may be allocated."""
    found = await reader.find(MACHINES, {"pool": pool_of(partition_id, size_id, rack_id)})
    alive: list[Stored[Machine]] = []
    for machine in found:
        events = await reader.lookup(EVENTS, machine.id)
        if events is not None and events.value.liveliness == "Alive":
            alive.append(machine)
    return alive


async def count_by_rack(
    reader: Reader, where: Mapping[str, str], *, tags: Sequence[str] | None = None
) -> dict[str, int]:
    """Return how many machines there are by rack.

    Args:
        where: Values of facets that they have.
        tags: They have any of these tags.
    """
    parts = ["SELECT f.value, count(*) FROM facet f WHERE f.kind = $1 AND f.name = 'rack'"]
    args: list[str] = [MACHINES.name]
    for name, value in where.items():
        args += [name, value]
        parts.append(_AMONG.format(name=len(args) - 1, values=f"= ${len(args)}"))
    if tags is not None:
        args += ["tag", *tags]
        places = ", ".join(f"${len(args) - each}" for each in range(len(tags)))
        parts.append(_AMONG.format(name=len(args) - len(tags), values=f"IN ({places or 'NULL'})"))
    rows = await reader.fetch(" ".join([*parts, "GROUP BY f.value"]), *args)
    return {str(rack): int(count) for rack, count in rows}
