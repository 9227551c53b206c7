# SPDX-License-Identifier: Apache-2.0
"""Machines that wait, counted by rack without reading any of them."""

from collections import Counter
from collections.abc import Sequence

from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.machine import (
    MACHINES,
    Machine,
    pool_of,
    spread_key,
    tag_spread_key,
)
from metropolis.metal.store import Reader, Stored

# Ranges of one index each: whatever a planner knows of the tables, there is one way to go. What is
# alive is not looked for but what is not: it is little, or everything else stands still.
_RANGE = "f.kind = $1 AND f.name = $2 AND f.value >= $3 AND f.value < $4"
_COUNT = f"SELECT f.value, count(*) FROM facet f WHERE {_RANGE} GROUP BY f.value ORDER BY f.value"  # noqa: S608  # constant
_MACHINES = f"SELECT f.value, f.id FROM facet f WHERE {_RANGE}"  # noqa: S608  # constant
_SILENT = "SELECT s.id FROM facet s WHERE s.kind = $5 AND s.name = 'liveliness' AND s.value = "
_AVAILABLE = (
    f"SELECT f.value, count(*) FROM facet f WHERE {_RANGE}"  # noqa: S608  # constant
    f" AND f.id NOT IN ({_SILENT}'Dead' UNION ALL {_SILENT}'Unknown')"
    " GROUP BY f.value ORDER BY f.value"
)


def _range(prefix: str) -> tuple[str, str]:
    """All texts that begin so: the prefix ends with a separator, the end with what follows it."""
    assert prefix.endswith("\x1f"), "a part of an id is not all of it"
    return prefix, f"{prefix[:-1]}\x20"


async def waiting_by_rack(reader: Reader, partition_id: str, size_id: str) -> dict[str, int]:
    """Return how many machines of a pool wait, alive or not, for each rack that has one."""
    prefix = pool_of(partition_id, size_id)
    rows = await reader.fetch(_COUNT, MACHINES.name, "pool", *_range(prefix))
    return {value[len(prefix) :]: count for value, count in rows}


async def available_by_rack(reader: Reader, partition_id: str, size_id: str) -> dict[str, int]:
    """Return how many machines of a pool may be allocated, for each rack that has one."""
    prefix = pool_of(partition_id, size_id)
    rows = await reader.fetch(_AVAILABLE, MACHINES.name, "pool", *_range(prefix), EVENTS.name)
    return {value[len(prefix) :]: count for value, count in rows}


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
    reader: Reader, *, project_id: str, partition_id: str, role: str
) -> dict[str, int]:
    """Return how many machines of a role a project has, by rack."""
    prefix = spread_key(project_id, partition_id, role)
    rows = await reader.fetch(_COUNT, MACHINES.name, "spread", *_range(prefix))
    return {value[len(prefix) :]: count for value, count in rows}


async def count_tagged_by_rack(
    reader: Reader, *, project_id: str, partition_id: str, tags: Sequence[str]
) -> dict[str, int]:
    """Return how many machines with any of some tags a project has, by rack."""
    racks: dict[str, str] = {}
    for tag in tags:
        prefix = tag_spread_key(project_id, partition_id, tag)
        rows = await reader.fetch(_MACHINES, MACHINES.name, "tag-spread", *_range(prefix))
        racks |= {str(machine_id): str(value)[len(prefix) :] for value, machine_id in rows}
    return dict(Counter(racks.values()))
