# SPDX-License-Identifier: Apache-2.0
"""Provisioning events as they arrive: one small row of the machine's own for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.event import (
    EVENT_HISTORIES,
    EVENTS,
    LOG_STORED_MAX,
    Event,
    EventContainer,
    EventHistory,
    ProvisioningEvent,
)
from metropolis.metal.model.machine_request import EventReport
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.machines import ensure_machine, write_again
from metropolis.metal.store import Reader, Store, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of some events.

    Attributes:
        failed: Ids of the machines whose event was refused.
    """

    count: int
    failed: tuple[str, ...]


def parse_event(name: str) -> Event:
    """Read the name of an event.

    Raises:
        InvalidArgumentError: there is no such event.
    """
    try:
        return Event(name)
    except ValueError:
        raise InvalidArgumentError(
            f"event: there is no {name[:60]!r}",
            remedy=f"Send one of {', '.join(Event)}.",
        ) from None


async def record_event(
    tx: Transaction,
    machine_id: str,
    event: Event,
    message: str = "",
    time: datetime | None = None,
) -> EventContainer:
    """Judge an event and remember what comes of it. An unknown machine is made known.

    Args:
        time: What the machine said; ours counts.

    Raises:
        InvalidArgumentError: no machine is called so.
    """
    stored = await tx.lookup(EVENTS, machine_id)
    before = new_container(machine_id) if stored is None else stored.value
    after, entry = step(before, event, now=tx.now, message=message, client_time=time)
    if stored is None:
        await ensure_machine(tx, machine_id)
        await tx.insert(EVENTS, machine_id, after)
    elif after is not before:
        await tx.replace(stored, after)
    if entry is not None:
        await _remember(tx, machine_id, entry)
    return after


async def _remember(tx: Transaction, machine_id: str, entry: ProvisioningEvent) -> None:
    history = await tx.lookup(EVENT_HISTORIES, machine_id)
    if history is None:
        await tx.insert(EVENT_HISTORIES, machine_id, EventHistory(log=(entry,)))
    else:
        log = (entry, *history.value.log)[:LOG_STORED_MAX]
        await tx.replace(history, EventHistory(log=log))


async def ensure_container(tx: Transaction, machine_id: str) -> None:
    """Begin to keep events of a machine that registered without any: that is a sign of life."""
    if await tx.lookup(EVENTS, machine_id) is None:
        container = msgspec.structs.replace(new_container(machine_id), last_event_time=tx.now)
        await tx.insert(EVENTS, machine_id, container)


async def receive_events(store: Store, reports: Mapping[str, EventReport]) -> Received:
    """Record one event of each of some machines; what is refused keeps none of the others back."""

    async def change(tx: Transaction) -> Received:
        failed: list[str] = []
        for machine_id, report in reports.items():
            try:
                event = parse_event(report.event)
                await record_event(tx, machine_id, event, report.message, report.time)
            except InvalidArgumentError:
                failed.append(machine_id)
        return Received(count=len(reports) - len(failed), failed=tuple(failed))

    return await write_again(store, change, serial=False)


async def history_of(reader: Reader, machine_id: str) -> tuple[ProvisioningEvent, ...]:
    """All events that are kept of a machine, newest first."""
    found = await reader.lookup(EVENT_HISTORIES, machine_id)
    return () if found is None else found.value.log
