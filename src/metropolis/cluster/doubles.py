# SPDX-License-Identifier: Apache-2.0
"""Notices two machines that are one node at the same time: a stolen key, or a copied disk.

A node that moves is seen here, then there. Two machines with one key are seen here, there, and
here again: both hold a heartbeat stream, and each beats every 5 s. The same holds for the boot ids
that they report. So what comes back within `TURNS_S` after something else was seen gives them away.

    addresses   10.0.0.3 ─▶ 10.0.0.9               moved: nothing is said
                10.0.0.3 ─▶ 10.0.0.9 ─▶ 10.0.0.3   two machines: ERROR in the log, and `explain`

Known only to the leader, and forgotten with its tenure: the next one notices within two beats. It
is an alarm and no lock, for a machine whose address goes back and forth looks the same. Whoever
uses a stolen key from behind the same address, and reports no status, is not noticed.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from metropolis.supervision import Logger

TURNS_S: Final = 60.0
SHOWN_S: Final = 600.0
SAID_AGAIN_S: Final = 60.0
VALUES_MAX: Final = 8  # of one node and trait; a thief may make up boot ids for ever
REMEDY: Final = (
    "If one of them is not yours, run `metroctl node delete --bypass-has-roles "
    "--bypass-not-decommissioned {node_id}`: the key is refused everywhere at once. Then install "
    "the machine that is yours anew."
)


class Trait(StrEnum):
    """What tells machines apart."""

    ADDRESS = "addresses"
    BOOT = "boot ids"


@dataclass(slots=True)
class _Sightings:
    current: str
    left_s: dict[str, float] = field(default_factory=dict[str, float])  # seen before, until when


@final
class Doubles:
    """See the module's docstring."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._seen: dict[tuple[str, Trait], _Sightings] = {}
        self._alarms: dict[str, tuple[float, str]] = {}  # node id -> since when, what
        self._said_s: dict[str, float] = {}

    def see(self, node_id: str, trait: Trait, value: str, *, now_s: float) -> None:
        """Note that a node was seen; say so when there must be two of it."""
        if not value:
            return
        seen = self._seen.setdefault((node_id, trait), _Sightings(value))
        before = seen.current
        if value == before:
            return
        seen.left_s[before] = now_s
        seen.current = value
        if now_s - seen.left_s.pop(value, -TURNS_S) < TURNS_S:
            self._alarm(node_id, f"{trait} {' and '.join(sorted([value, before]))}", now_s)
        while len(seen.left_s) > VALUES_MAX:
            del seen.left_s[next(iter(seen.left_s))]

    def alarm(self, node_id: str, *, now_s: float) -> str:
        """Return what gave two machines away lately; empty when nothing did."""
        since_s, what = self._alarms.get(node_id, (-SHOWN_S, ""))
        return what if now_s - since_s < SHOWN_S else ""

    def forget(self, node_id: str) -> None:
        """Forget a node that was deleted."""
        for trait in Trait:
            self._seen.pop((node_id, trait), None)
        self._alarms.pop(node_id, None)
        self._said_s.pop(node_id, None)

    def _alarm(self, node_id: str, what: str, now_s: float) -> None:
        self._alarms[node_id] = (now_s, what)
        if now_s - self._said_s.get(node_id, -SAID_AGAIN_S) < SAID_AGAIN_S:
            return
        self._said_s[node_id] = now_s
        self._log.error(
            "Two machines are node %s at the same time (%s). %s",
            node_id,
            what,
            REMEDY.format(node_id=node_id),
        )
