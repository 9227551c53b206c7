# SPDX-License-Identifier: Apache-2.0
"""Jobs that look after machines nobody hears of: judging that, and booting them anew.

Each replica runs them; what one has done the next finds done.
"""

import logging
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from metropolis.metal.jobs import every
from metropolis.metal.model.event import EVENTS, EventContainer
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.rules.liveliness import SILENT_AFTER, liveliness, resurrection_reason
from metropolis.metal.services.freeing import free
from metropolis.metal.services.machines import write_again
from metropolis.metal.site import Site
from metropolis.metal.store import Reader, Store, Transaction

LOG: Final = logging.getLogger("metropolis.metal.liveliness")
LIVELINESS_EVERY_S: Final = 60.0
RESURRECTION_EVERY_S: Final = 3600.0
PAGE: Final = 500  # machines that are judged at once: nobody else runs meanwhile


async def judge_liveliness(store: Store, *, now: datetime) -> list[str]:
    """Write down who is silent, and return the ids of those whose liveliness changed.

    Machines that send events cost nothing but being read.
    """
    changed: list[str] = []
    after: str | None = None
    while True:
        page = await store.read(partial(_page, after=after, now=now))
        if page.wrong:
            changed += await write_again(
                store, partial(_correct, machine_ids=page.wrong, now=now), serial=False
            )
        if page.last is None:
            return changed
        after = page.last


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of those that are not as they are said to be, and where the next page begins."""

    wrong: tuple[str, ...]
    last: str | None


async def _page(reader: Reader, *, after: str | None, now: datetime) -> _Page:
    found = await reader.find(EVENTS, after=after, limit=PAGE)
    wrong: list[str] = []
    for each in found:
        last = each.value.last_event_time
        alive = last is not None and now - last <= SILENT_AFTER
        if alive and each.value.liveliness == "Alive":
            continue
        if await _judge(reader, each.value, now) != each.value.liveliness:
            wrong.append(each.id)
    return _Page(wrong=tuple(wrong), last=found[-1].id if len(found) == PAGE else None)


async def _judge(reader: Reader, container: EventContainer, now: datetime) -> str:
    machine = await reader.lookup(MACHINES, container.id)
    allocated = machine is not None and machine.value.allocation is not None
    return liveliness(container, allocated=allocated, now=now)


async def _correct(tx: Transaction, *, machine_ids: tuple[str, ...], now: datetime) -> list[str]:
    changed: list[str] = []
    for machine_id in machine_ids:
        stored = await tx.lookup(EVENTS, machine_id)
        if stored is None:
            continue
        judged = await _judge(tx, stored.value, now)
        if judged != stored.value.liveliness:
            await tx.replace(stored, msgspec.structs.replace(stored.value, liveliness=judged))
            changed.append(machine_id)
    return changed


async def resurrect(store: Store, *, now: datetime) -> dict[str, str]:
    """Free machines once more that are nobody's and do not come back by themselves.

    Returns:
        By machine, why.
    """
    candidates = await store.read(_silent)
    done: dict[str, str] = {}
    for machine_id in candidates:
        reason = await write_again(store, partial(_resurrect_one, machine_id=machine_id, now=now))
        if reason is not None:
            done[machine_id] = reason
            LOG.info("machine %s is freed once more: %s", machine_id, reason)
    return done


async def _silent(reader: Reader) -> list[str]:
    dead = await reader.find(EVENTS, {"liveliness": "Dead"})
    failed = await reader.find(EVENTS, {"reclaim-failed": True})
    return sorted({each.id for each in (*dead, *failed)})


async def _resurrect_one(tx: Transaction, *, machine_id: str, now: datetime) -> str | None:
    machine = await tx.lookup(MACHINES, machine_id)
    events = await tx.lookup(EVENTS, machine_id)
    if machine is None or events is None or machine.value.state.value == "LOCKED":
        return None
    allocated = machine.value.allocation is not None
    reason = resurrection_reason(events.value, allocated=allocated, now=now)
    if reason is not None:
        await free(tx, machine_id)
    return reason


async def run_liveliness(site: Site) -> None:
    """Judge once a minute, for as long as this replica runs."""
    await every(LIVELINESS_EVERY_S, lambda: judge_liveliness(site.store, now=site.clock.wall()))


async def run_resurrection(site: Site) -> None:
    """Resurrect once an hour, for as long as this replica runs."""
    await every(RESURRECTION_EVERY_S, lambda: resurrect(site.store, now=site.clock.wall()))
