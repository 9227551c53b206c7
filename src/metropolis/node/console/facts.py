# SPDX-License-Identifier: Apache-2.0
"""What there is to show about a machine. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.supervision.entries import Entry, LeveledEntry, Severity
from metropolis.supervision.names import is_within
from metropolis.supervision.status import RunnableStatus, State

ENROLMENT: Final = "root.enrolment"
_REMEDY: Final = "remedy: "
_FAILED: Final = "runnable returned error: "
_WAITING: Final = "Waiting for "
_TROUBLED: Final = (State.DEAD, State.NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A failure that lasts.

    Attributes:
        dn: The runnable that fails.
        cause: In one sentence.
        next_step: What a person can do; empty when nobody knows.
    """

    dn: str
    cause: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything on the status page. What is not known yet is empty.

    Attributes:
        system: Which slot runs and whether it is confirmed.
        waits_for: In one sentence; empty when the node does its work.
    """

    product: str
    variant: str
    node_id: str = ""
    addresses: Sequence[str] = ()
    roles: Sequence[str] = ()
    ca_fingerprint: str = ""
    system: str = ""
    waits_for: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a machine is on its way to its cluster.

    Attributes:
        network: What the network waits for.
        enrolment: What the enrolment waits for, as it says itself.
    """

    has_addresses: bool
    has_identity: bool
    has_roles: bool
    is_heard: bool
    network: str = ""
    enrolment: str = ""


def awaited(progress: Progress) -> str:
    """Say what a machine waits for; nothing when it has everything."""
    if not progress.has_addresses:
        return progress.network or "an address for this machine"
    if not progress.has_identity:
        return progress.enrolment or "its enrolment in a cluster"
    if not progress.has_roles:
        return "what the cluster asks of this node"
    if not progress.is_heard:
        return "the cluster's leader to hear this node"
    return ""


class Troubles:
    """The failures of runnables that are not healthy since, from the log as it happens."""

    def __init__(self) -> None:
        self._by_dn: dict[str, Problem] = {}
        self.enrolment = ""  # what it waits for or suffers, as it said itself

    def hear(self, entry: Entry) -> bool:
        """Take note of an entry; say whether it changes what is shown."""
        if not isinstance(entry, LeveledEntry):
            return False
        if entry.severity == Severity.FATAL:
            self._by_dn[entry.dn] = problem_of(entry)
            return True
        if is_within(entry.dn, ENROLMENT):
            before, line = self.enrolment, entry.lines[0]
            if entry.severity == Severity.WARNING:
                self.enrolment = line
            else:
                self.enrolment = line.removeprefix(_WAITING) if line.startswith(_WAITING) else ""
            return self.enrolment != before
        return False

    def current(self, states: Callable[[], Mapping[str, RunnableStatus]]) -> Problem | None:
        """Return the problem of the runnable that failed first of those that still do.

        Args:
            states: All runnables; only asked when there are problems.
        """
        if not self._by_dn:
            return None
        known = states()
        for dn in list(self._by_dn):
            status = known.get(dn)
            if status is None or status.state not in _TROUBLED:
                del self._by_dn[dn]
        return next(iter(self._by_dn.values()), None)


def problem_of(entry: LeveledEntry) -> Problem:
    """Read what the tree logs when a runnable fails."""
    remedies = [line for line in entry.lines if line.startswith(_REMEDY)]
    return Problem(
        dn=entry.dn,
        cause=entry.lines[0].removeprefix(_FAILED),
        next_step=remedies[0].removeprefix(_REMEDY) if remedies else "",
    )


def announcements(before: Facts | None, now: Facts) -> Sequence[str]:
    """Return the lines that tell what has become different; programs read them, too."""
    lines: list[str] = []

    def tell(line: str, old: object, new: object) -> None:
        if new and new != old:
            lines.append(line)

    tell(f"address {', '.join(now.addresses)}", before and before.addresses, now.addresses)
    tell(f"node {now.node_id}", before and before.node_id, now.node_id)
    tell(
        f"cluster CA sha256:{now.ca_fingerprint}",
        before and before.ca_fingerprint,
        now.ca_fingerprint,
    )
    tell(f"roles {', '.join(now.roles)}", before and before.roles, now.roles)
    tell(f"system {now.system}", before and before.system, now.system)
    tell(f"waiting for: {now.waits_for}", before and before.waits_for, now.waits_for)
    if now.problem is not None and (before is None or before.problem != now.problem):
        lines.append(f"problem: {now.problem.cause}")
        if now.problem.next_step:
            lines.append(f"next step: {now.problem.next_step}")
    return lines
