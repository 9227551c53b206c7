# SPDX-License-Identifier: Apache-2.0
"""Following a machine until it phones home."""

from typing import Any

import pytest
from typing_extensions import override

from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    UnavailableError,
)
from metropolis.ctl.metal.client import Access, Client
from metropolis.ctl.metal.provisioning import POLL_S, follow

BEFORE, START = "2026-11-20T09:59:00Z", "2026-11-20T10:00:00Z"


def state(*events: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A machine with events, oldest first."""
    log = [{"event": name, "time": time, "message": ""} for name, time in reversed(events)]
    return {
        "id": "m1",
        "allocation": {"created": START},
        "events": {"log": log, "crash_loop": False},
        **more,
    }


class Script(Client):
    """Answers one thing after the other; the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        super().__init__(Access(url="http://nowhere"))
        self._answers = list(answers)

    @override
    def call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        assert (method, path, body, more) == ("GET", "/v1/machine/m1", None, {})
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def followed(*answers: dict[str, Any] | Exception, timeout_s: float = 60.0) -> list[str]:
    """Follow a machine; return what was told, once it was told right at the end."""
    told: list[str] = []
    passed = [0.0]

    def pause(seconds: float) -> None:
        assert seconds == POLL_S
        passed[0] += seconds

    found = follow(
        Script(*answers),
        "m1",
        timeout_s=timeout_s,
        told=told.append,
        pause=pause,
        now_s=lambda: passed[0],
    )
    assert found["id"] == "m1"
    return told


OLD = ("Phoned Home", BEFORE)
INSTALLING = ("Installing", "2026-11-20T10:00:05Z")
BOOTING = ("Booting New Kernel", "2026-11-20T10:01:00Z")
HOME = ("Phoned Home", "2026-11-20T10:02:00Z")


def test_each_event_since_the_allocation_is_told_once_until_it_phones_home() -> None:
    told = followed(
        state(OLD),
        state(OLD, INSTALLING),
        state(OLD, INSTALLING, BOOTING),
        state(OLD, INSTALLING, BOOTING, HOME),
    )
    assert told == ["10:00:05 Installing", "10:01:00 Booting New Kernel", "10:02:00 Phoned Home"]


def test_a_control_plane_that_goes_away_for_a_moment_is_waited_for() -> None:
    gone = UnavailableError("it is gone", remedy="Wait.")
    told = followed(state(INSTALLING), gone, gone, gone, state(INSTALLING, HOME))
    assert told == ["10:00:05 Installing", "it is gone; trying again", "10:02:00 Phoned Home"]


def test_somebody_who_frees_it_meanwhile_ends_the_waiting() -> None:
    with pytest.raises(FailedPreconditionError, match="freed meanwhile"):
        followed(state(INSTALLING), state(INSTALLING, allocation=None))


def test_what_failed_is_said_with_its_reason() -> None:
    failed = state(allocation={"created": START, "failure": "no disk"})
    with pytest.raises(FailedPreconditionError, match="failed: no disk") as refused:
        followed(failed)
    assert refused.value.remedy == "Run `metalctl machine explain m1`."
    looping = state(INSTALLING, events={"log": [], "crash_loop": True})
    with pytest.raises(FailedPreconditionError, match="again and again"):
        followed(looping)


def test_who_takes_too_long_is_not_waited_for_for_ever() -> None:
    with pytest.raises(DeadlineExceededError, match="did not phone home in time"):
        followed(state(INSTALLING), timeout_s=10.0)
