# SPDX-License-Identifier: Apache-2.0
"""Machines that wait: counted by rack without reading any of them, or a few of very many."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.machine import (
    MACHINES,
    Machine,
    pool_of,
    spread_key,
    tag_spread_key,
    waiting_in,
)
from metropolis.metal.store import Reader, Stored

MANY: Final = 256  # machines of a pool that are counted; beyond, a few of them are as good as all
FEW: Final = 8
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
_WAITING = "SELECT f.id FROM facet f WHERE f.kind = $1 AND f.name = 'waiting' AND f.value = $2"
_IS_MANY = f"SELECT count(*) FROM ({_WAITING} LIMIT {MANY + 1}) AS few"  # noqa: S608  # constant
_FROM = f"{_WAITING} AND f.id >= $3 ORDER BY f.id LIMIT {FEW}"  # constant


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


async def some_of_many(reader: Reader, partition_id: str, size_id: str, *, start: str) -> list[str]:
    """Return a few machines that wait, from an id on that chance has chosen.

    None when the pool is so small that one may as well look at all of it.
    """
    of = (MACHINES.name, waiting_in(partition_id, size_id))
    if (await reader.fetch(_IS_MANY, *of))[0][0] <= MANY:
        return []
    rows = await reader.fetch(_FROM, *of, start) or await reader.fetch(_FROM, *of, "")
    return [machine_id for (machine_id,) in rows]


async def lookup_alive(reader: Reader, machine_id: str) -> Stored[Machine] | None:
    """Return a machine if it may be allocated now."""
    machine = await reader.lookup(MACHINES, machine_id)
    return machine if machine is not None and await _is_alive(reader, machine) else None


async def available_in(
    reader: Reader, partition_id: str, size_id: str, rack_id: str
) -> list[Stored[Machine]]:
    """Return the machines of a rack that may be allocated."""
    found = await reader.find(MACHINES, {"pool": pool_of(partition_id, size_id, rack_id)})
    return [machine for machine in found if await _is_alive(reader, machine)]


async def _is_alive(reader: Reader, machine: Stored[Machine]) -> bool:
    events = await reader.lookup(EVENTS, machine.id)
    return events is not None and events.value.liveliness == "Alive"


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
