# SPDX-License-Identifier: Apache-2.0
"""Finding machines, and what is kept beside them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from metropolis.metal.model.event import EVENTS, EventContainer
from metropolis.metal.model.ipmi import IPMIS, Ipmi
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.machine_request import MachineSearchQuery
from metropolis.metal.rules.machine_search import Clauses, Search, parse_search
from metropolis.metal.store import Kind, Reader, Scalar, Stored

EntityT = TypeVar("EntityT", bound=msgspec.Struct)
Where = Mapping[str, Scalar | Sequence[Scalar]]

NAMED_MAX: Final = 500  # so many are looked up by name; for more everything is read
_decoder: Final = msgspec.json.Decoder(Machine)
_encoder: Final = msgspec.json.Encoder()


async def find_texts(
    reader: Reader, query: MachineSearchQuery, *, within: Where | None = None
) -> list[tuple[bytes, bytes | None]]:
    """Find machines, as the texts they are stored in, each with that of its events.

    Args:
        within: Facets that they must have, whatever the query says.
    """
    search = parse_search(query)
    if search.machine_id is not None or search.ipmi is not None:
        found = await _find(reader, search, within or {})
        events = await events_of(reader, [each.id for each in found])
        return [
            (_encoder.encode(each.value), _encoder.encode(events[each.id]))
            if each.id in events
            else (_encoder.encode(each.value), None)
            for each in found
        ]
    where = _joined(search.machine, within or {})
    if where is None:
        return []
    texts = await reader.texts_beside(MACHINES, EVENTS, where)
    rest = search.machine.rest
    if not rest:
        return texts
    return [each for each in texts if _fits(_decoder.decode(each[0]), rest)]


async def find_machines(
    reader: Reader, query: MachineSearchQuery, *, within: Where | None = None
) -> list[Stored[Machine]]:
    """Find machines."""
    return await _find(reader, parse_search(query), within or {})


async def _find(reader: Reader, search: Search, within: Where) -> list[Stored[Machine]]:
    ids: set[str] | None = None
    if search.ipmi is not None:
        bmcs = await reader.find(IPMIS, search.ipmi.where)
        ids = {each.id for each in bmcs if _fits(each.value, search.ipmi.rest)}
    if search.machine_id is not None:
        ids = {search.machine_id} if ids is None or search.machine_id in ids else set()
    if ids is not None and len(ids) <= NAMED_MAX:
        named = [await reader.lookup(MACHINES, each) for each in sorted(ids)]
        return [
            each
            for each in named
            if each is not None
            and _fits(each.value, search.machine.all)
            and _is_within(each.value, within)
        ]
    where = _joined(search.machine, within)
    if where is None:
        return []
    return [
        each
        for each in await reader.find(MACHINES, where)
        if (ids is None or each.id in ids) and _fits(each.value, search.machine.rest)
    ]


def _joined(clauses: Clauses, within: Where) -> Where | None:
    """Both conditions on facets; None when no machine can meet them."""
    where: dict[str, Scalar | Sequence[Scalar]] = dict(within)
    for name, value in clauses.where.items():
        allowed = where.get(name)
        if allowed is not None and value not in _as_many(allowed):
            return None
        where[name] = value
    return where


def _as_many(values: Scalar | Sequence[Scalar]) -> Sequence[Scalar]:
    return (values,) if isinstance(values, str | int) else values


def _is_within(machine: Machine, within: Where) -> bool:
    return all(
        any(value in _as_many(allowed) for value in MACHINES.facets[name](machine))
        for name, allowed in within.items()
    )


def _fits(entity: object, tests: Sequence[object]) -> bool:
    return all(callable(test) and test(entity) for test in tests)


async def events_of(
    reader: Reader, machine_ids: Collection[str] | None
) -> dict[str, EventContainer]:
    """The events of some machines, or of all."""
    return await _beside(reader, EVENTS, machine_ids)


async def bmcs_of(reader: Reader, machine_ids: Collection[str] | None) -> dict[str, Ipmi]:
    """The BMCs of some machines, or of all."""
    return await _beside(reader, IPMIS, machine_ids)


async def _beside(
    reader: Reader, kind: Kind[EntityT], machine_ids: Collection[str] | None
) -> dict[str, EntityT]:
    where = None if machine_ids is None else {"id": sorted(machine_ids)}
    return {each.id: each.value for each in await reader.find(kind, where)}
