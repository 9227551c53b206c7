# SPDX-License-Identifier: Apache-2.0
"""What can be said about a runnable from outside."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class State(Enum):
    """Where a runnable is in its life."""

    NEW = "NODE_STATE_NEW"  # started; may add children; has not said that it is healthy
    HEALTHY = "NODE_STATE_HEALTHY"  # set up and serving
    DEAD = "NODE_STATE_DEAD"  # failed; restarted after a back-off
    DONE = "NODE_STATE_DONE"  # finished on purpose
    CANCELED = "NODE_STATE_CANCELED"  # stopped because another runnable failed, or at shutdown


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableStatus:
    """One runnable, as `explain` and metrics see it. Times are those of `Clock.monotonic_s`.

    Attributes:
        since_s: When it entered the state.
        restarts: How often it was started again, for whatever reason.
        last_error: Why it last died, on one line, without secrets; None if it never did.
        backoff_until_s: When it will be started again; None if it does not wait for that.
        stuck_at: What it awaits although it was cancelled more than 5 s ago; None if it is not
            stuck.
    """

    state: State
    since_s: float
    restarts: int
    last_error: str | None
    backoff_until_s: float | None
    stuck_at: str | None


class Observer(Protocol):
    """Is told every change of state, at once and synchronously. Must not raise, must be quick."""

    def state_changed(self, dn: str, before: State | None, after: State) -> None:
        """Take note. `before` is None when the runnable is new to the tree."""
        ...


class TreeMisuseError(AssertionError):
    """A runnable used its context against the axioms: a bug, which ends that runnable."""


class RestartRequestedError(Exception):
    """Raised by a healthy runnable whose inputs changed: start me anew, with all below me.

    No failure: it is logged at INFO, waits for no back-off and leaves the siblings alone. From a
    runnable that is not healthy it is a failure like any other, so nothing can spin.
    """
