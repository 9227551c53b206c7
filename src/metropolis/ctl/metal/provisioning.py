# SPDX-License-Identifier: Apache-2.0
"""Following a machine from its allocation until it is at work."""

from collections.abc import Callable
from typing import Any, Final

from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    MetropolisError,
    UnavailableError,
)
from metropolis.ctl.metal.cells import Json, at, entries, parsed_time, text
from metropolis.ctl.metal.client import Client, quoted

ARRIVED: Final = "Phoned Home"
POLL_S: Final = 2.0
TIMEOUT_S: Final = 30 * 60.0


def follow(
    client: Client,
    key: str,
    *,
    timeout_s: float,
    told: Callable[[str], None],
    pause: Callable[[float], None],
    now_s: Callable[[], float],
) -> Any:  # noqa: ANN401  # JSON
    """Tell the provisioning events of a machine until it phones home; return the machine.

    Args:
        told: Gets a line for each event.
        pause: Waits for so many seconds.
        now_s: Of a clock that never goes back.

    Raises:
        FailedPreconditionError: it failed, or was freed meanwhile.
        DeadlineExceededError: it takes longer.
    """
    end_s = now_s() + timeout_s
    seen: set[tuple[str, str]] = set()
    is_lost = False
    while True:
        try:
            machine = client.call("GET", f"/v1/machine/{quoted(key)}")
        except UnavailableError as error:  # the control plane may restart meanwhile
            if not is_lost:
                told(f"{error}; trying again")
            is_lost = True
        else:
            is_lost = False
            if _tell(machine, seen, told):
                return machine
            _check(machine)
        if now_s() >= end_s:
            raise DeadlineExceededError(
                f"machine {key} did not phone home in time",
                remedy=f"Run `metalctl machine explain {key}`; it goes on without you.",
            )
        pause(POLL_S)


def _tell(machine: Json, seen: set[tuple[str, str]], told: Callable[[str], None]) -> bool:
    """Tell what is new since the allocation; return whether the machine arrived."""
    allocated = parsed_time(at(machine, "allocation.created"))
    is_there = False
    for event in reversed(entries(machine, "events.log")):  # oldest first
        time = parsed_time(at(event, "time"))
        if allocated is None or time is None or time < allocated:
            continue
        name = text(event, "event")
        is_there = name == ARRIVED
        if (text(event, "time"), name) not in seen:
            seen.add((text(event, "time"), name))
            told(f"{time:%H:%M:%S} {name}  {text(event, 'message')}".rstrip())
    return is_there


def _check(machine: Json) -> None:
    key = text(machine, "id")
    remedy = f"Run `metalctl machine explain {key}`."
    if at(machine, "allocation") is None:
        raise FailedPreconditionError(
            f"machine {key} was freed meanwhile", remedy="Allocate another one."
        )
    failure = text(machine, "allocation.failure")
    error: MetropolisError | None = None
    if failure:
        error = FailedPreconditionError(f"machine {key} failed: {failure}", remedy=remedy)
    elif at(machine, "events.crash_loop"):
        error = FailedPreconditionError(
            f"machine {key} crashes again and again while it is installed", remedy=remedy
        )
    if error is not None:
        raise error
