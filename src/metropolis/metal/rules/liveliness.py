# SPDX-License-Identifier: Apache-2.0
"""Who is alive, and whom to boot again because he is not."""

from datetime import datetime, timedelta
from typing import Final

from metropolis.metal.model.event import EventContainer, Liveliness

SILENT_AFTER: Final = timedelta(minutes=5)
RESURRECT_AFTER: Final = timedelta(hours=1)


def liveliness(container: EventContainer, *, allocated: bool, now: datetime) -> Liveliness:
    """Judge by the last event: of an allocated machine that is silent nothing is known."""
    last = container.last_event_time
    if last is None:
        return container.liveliness
    if now - last <= SILENT_AFTER:
        return "Alive"
    return "Unknown" if allocated else "Dead"


def resurrection_reason(container: EventContainer, *, allocated: bool, now: datetime) -> str | None:
    """Say why a machine has to be freed once more so that it boots, or None."""
    if allocated:
        return None
    if container.failed_machine_reclaim:
        return "it still runs what it was freed from"
    last = container.last_event_time
    if container.liveliness == "Dead" and last is not None and now - last > RESURRECT_AFTER:
        return f"it is dead since {last:%Y-%m-%d %H:%M:%S}"
    return None
