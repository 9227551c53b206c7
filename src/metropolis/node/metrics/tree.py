# SPDX-License-Identifier: Apache-2.0
"""Counts what happens in supervision trees. Told synchronously, so it only adds up."""

from collections.abc import Mapping

from metropolis.supervision import State

# The first state that a runnable ever has is told as a change from DEAD, as upstream does.
FIRST = State.DEAD


class TreeMeter:
    """An `Observer` of one or more trees whose names differ. Outlives them.

    A runnable that is not started again keeps its last state: names are those in the code, so
    there are a hundred of them, not more each day.
    """

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        self._transitions: dict[tuple[str, State, State], int] = {}

    def state_changed(self, dn: str, before: State | None, after: State) -> None:
        """Count a change."""
        old = self._states.get(dn, FIRST) if before is None else before
        key = (dn, old, after)
        self._states[dn] = after
        self._transitions[key] = self._transitions.get(key, 0) + 1

    @property
    def states(self) -> Mapping[str, State]:
        """The present state of every runnable that ever was, by name."""
        return self._states

    @property
    def transitions(self) -> Mapping[tuple[str, State, State], int]:
        """How often each change has happened: (name, from, to) -> count."""
        return self._transitions
