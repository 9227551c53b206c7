# SPDX-License-Identifier: Apache-2.0
"""The life of a machine as its events tell it: one table of what each event does in each state.

The state is the newest stored event, `None` before the first. An event that nobody expects in a
state is stored all the same (and remembered as an error), so the log heals itself: the next event
is judged by what really happened.

    None ─► PXE Booting ─► Preparing ─► Registering ─► Waiting ─► Installing ─► Booting New Kernel
                ▲                                                                      │
                └── Machine Reclaim, Planned Reboot, Crashed ◄── Phoned Home ◄─────────┘
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from metropolis.metal.model.event import (
    LOG_SHOWN_MAX,
    Event,
    EventContainer,
    ProvisioningEvent,
)

State: TypeAlias = Event | None

# Switches send what they saw of a phoning machine once a minute, and late: what arrives so soon
# after another event may be older than that.
LATE_AFTER: Final = timedelta(minutes=5)
STATES: Final[tuple[State, ...]] = (None, *(event for event in Event if event is not Event.ALIVE))


class Keep(Enum):
    """What becomes of an event."""

    STORED = "stored"  # in the log: it is the new state
    SEEN = "seen"  # as a sign of life: its time is the last event's
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What an event does.

    Attributes:
        crash_loop: The new value of the flag; None leaves it.
        failed_reclaim: The same.
        error: It is remembered as the last error.
        unexpected: Its message says so.
    """

    keep: Keep
    crash_loop: bool | None = None
    failed_reclaim: bool | None = None
    error: bool = False
    unexpected: bool = False


_E = Event
_STORE: Final = Effect(keep=Keep.STORED)
_SEE: Final = Effect(keep=Keep.SEEN)
_IGNORE: Final = Effect(keep=Keep.IGNORED)
_CALM: Final = Effect(keep=Keep.STORED, crash_loop=False)
_CRASH: Final = Effect(keep=Keep.STORED, crash_loop=True, error=True)
_BACK: Final = Effect(keep=Keep.STORED, failed_reclaim=False)
_STILL_BACK: Final = Effect(keep=Keep.SEEN, failed_reclaim=False)
_NOT_GIVEN_BACK: Final = Effect(keep=Keep.SEEN, failed_reclaim=True)
_UNEXPECTED: Final = Effect(keep=Keep.STORED, error=True, unexpected=True)
_UNEXPECTED_ALIVE: Final = Effect(keep=Keep.SEEN, error=True, unexpected=True)
_UNEXPECTED_BOOT: Final = Effect(keep=Keep.STORED, error=True, unexpected=True, crash_loop=True)

_HAMMERING: Final[tuple[State, ...]] = (  # where the discovery image runs, or the installer
    None,
    _E.PXE_BOOTING,
    _E.PREPARING,
    _E.REGISTERING,
    _E.WAITING,
    _E.INSTALLING,
    _E.BOOTING_NEW_KERNEL,
)


def _expected() -> dict[tuple[State, Event], Effect]:
    table: dict[tuple[State, Event], Effect] = {}
    fresh = (None, _E.PLANNED_REBOOT, _E.MACHINE_RECLAIM, _E.CRASHED)
    table |= dict.fromkeys(((state, _E.PXE_BOOTING) for state in fresh), _BACK)
    table[_E.PXE_BOOTING, _E.PXE_BOOTING] = _STILL_BACK
    table |= dict.fromkeys(((state, _E.PREPARING) for state in (*fresh, _E.PXE_BOOTING)), _BACK)
    for event, sources in {
        _E.REGISTERING: (None, _E.PREPARING),
        _E.WAITING: (None, _E.REGISTERING),
        _E.INSTALLING: (None, _E.REGISTERING, _E.WAITING),
        _E.BOOTING_NEW_KERNEL: (None, _E.INSTALLING),
    }.items():
        table |= dict.fromkeys(((state, event) for state in sources), _STORE)
    for state in (None, _E.BOOTING_NEW_KERNEL, _E.PLANNED_REBOOT):
        table[state, _E.PHONED_HOME] = _CALM
    table[_E.PHONED_HOME, _E.PHONED_HOME] = _SEE
    for state in (
        _E.MACHINE_RECLAIM,
        _E.PXE_BOOTING,
        _E.PREPARING,
        _E.REGISTERING,
        _E.WAITING,
    ):
        table[state, _E.PHONED_HOME] = _IGNORE
    table |= dict.fromkeys(((state, _E.PLANNED_REBOOT) for state in STATES), _CALM)
    table |= dict.fromkeys(((state, _E.MACHINE_RECLAIM) for state in STATES), _CALM)
    table |= dict.fromkeys(((state, _E.ALIVE) for state in _HAMMERING), _SEE)
    table |= dict.fromkeys(((state, _E.CRASHED) for state in _HAMMERING), _CRASH)
    return table


def _unexpected(event: Event) -> Effect:
    if event is Event.ALIVE:
        return _UNEXPECTED_ALIVE
    if event in {Event.PXE_BOOTING, Event.PREPARING}:
        return _UNEXPECTED_BOOT
    return _UNEXPECTED


_EXPECTED: Final = _expected()
EFFECTS: Final[Mapping[tuple[State, Event], Effect]] = {
    (state, event): _EXPECTED.get((state, event), _unexpected(event))
    for state in STATES
    for event in Event
}
# Instead of the above, for events that cannot have been under way since before the last one.
LATE_EFFECTS: Final[Mapping[tuple[State, Event], Effect]] = {
    (_E.MACHINE_RECLAIM, _E.PHONED_HOME): _NOT_GIVEN_BACK,
    (_E.PXE_BOOTING, _E.PHONED_HOME): _SEE,
    (_E.PREPARING, _E.PHONED_HOME): _STORE,
    (_E.REGISTERING, _E.PHONED_HOME): _STORE,
    (_E.WAITING, _E.PHONED_HOME): _STORE,
}


def effect_of(state: State, event: Event, *, since_last: timedelta | None) -> Effect:
    """Look up what an event does.

    Args:
        since_last: Time since the last event; None when there was none.
    """
    if since_last is not None and since_last > LATE_AFTER:
        late = LATE_EFFECTS.get((state, event))
        if late is not None:
            return late
    return EFFECTS[state, event]


def new_container(machine_id: str) -> EventContainer:
    """A machine of which nothing was heard yet."""
    return EventContainer(
        id=machine_id, liveliness="Alive", crash_loop=False, failed_machine_reclaim=False, log=()
    )


def step(
    container: EventContainer,
    event: Event,
    *,
    now: datetime,
    message: str = "",
    client_time: datetime | None = None,
) -> tuple[EventContainer, ProvisioningEvent | None]:
    """Judge an event.

    Args:
        now: When it arrived; clocks of replicas differ, so time here never goes back.

    Returns:
        The new container (the same object when the event is ignored), and what has to go into the
        history.
    """
    last = container.last_event_time
    now = now if last is None else max(now, last)
    state = container.newest
    effect = effect_of(state, event, since_last=None if last is None else now - last)
    if effect.keep is Keep.IGNORED:
        return container, None
    if effect.unexpected:
        name = "initial" if state is None else state.value.lower()
        message = f"[unexpectedly received in {name}] {message}".rstrip()
    entry = ProvisioningEvent(event=event, time=now, message=message, client_time=client_time)
    stored = entry if effect.keep is Keep.STORED else None
    changed = msgspec.structs.replace(
        container,
        liveliness="Alive",
        last_event_time=now,
        crash_loop=container.crash_loop if effect.crash_loop is None else effect.crash_loop,
        failed_machine_reclaim=(
            container.failed_machine_reclaim
            if effect.failed_reclaim is None
            else effect.failed_reclaim
        ),
        last_error_event=entry if effect.error else container.last_error_event,
        log=container.log if stored is None else (stored, *container.log)[:LOG_SHOWN_MAX],
    )
    return changed, stored
