# SPDX-License-Identifier: Apache-2.0
"""Two machines that are one node at the same time, by a stolen key or a copied disk: one counts.

The machine that was there first is the node for as long as it beats, every 5 s: what comes from
another address is refused until the first was silent for `HOLD_S`. So a node that moves is heard a
moment later, and a copy is not heard at all. Who beats although another one tried to meanwhile is
not the only machine.

    10.0.0.3 ─▶ 7 s of silence ─▶ 10.0.0.9           moved: nothing is said
    10.0.0.3 ─▶ 10.0.0.9, refused ─▶ 10.0.0.3        two machines: ERROR in the log, and `explain`

After a change of leaders the address that the node has reported last counts as heard just now.

Where both come from one address, the boot ids that they report give them away: what comes back
within `TURNS_S` after something else was seen. Known only to the leader, and forgotten with its
tenure: the next one notices within two beats. Whoever uses a stolen key from behind the same
address, and reports no status, is not noticed; nor does this keep anybody from what needs a key but
no heartbeat.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from metropolis.base.errors import UnavailableError
from metropolis.supervision import Logger

HOLD_S: Final = 7.0  # a beat, and what delays one
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


@dataclass(slots=True)
class _Holder:
    """The machine that is a node now.

    Attributes:
        tried: Who was refused since it was heard last; empty: nobody.
    """

    address: str
    heard_s: float
    tried: str = ""


@final
class Doubles:
    """See the module's docstring."""

    def __init__(self, log: Logger, *, now_s: float = 0.0) -> None:
        self._log = log
        self._seen: dict[tuple[str, Trait], _Sightings] = {}
        self._alarms: dict[str, tuple[float, str]] = {}  # node id -> since when, what
        self._said_s: dict[str, float] = {}
        self._holders: dict[str, _Holder] = {}
        self._since_s = now_s

    def admit(self, node_id: str, address: str, *, known_address: str, now_s: float) -> None:
        """Note that a node was heard from an address, unless another machine is that node.

        Args:
            known_address: What it has reported last; empty: nothing.

        Raises:
            UnavailableError: another machine is; it was heard a moment ago.
        """
        holder = self._holders.get(node_id)
        if holder is None:
            first = known_address or address
            holder = self._holders[node_id] = _Holder(first, self._since_s)
        if holder.address == address:
            if holder.tried:
                self._alarm(node_id, f"{Trait.ADDRESS} {address} and {holder.tried}", now_s)
            holder.heard_s, holder.tried = now_s, ""
        elif now_s - holder.heard_s >= HOLD_S:
            self._holders[node_id] = _Holder(address, now_s)
        else:
            holder.tried = address
            raise UnavailableError(
                f"another machine is this node, and is heard at {holder.address}",
                remedy=f"If this machine is a copy, switch it off, wipe it, and install it anew. "
                f"See `metroctl explain {node_id}`.",
            )

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
        self._holders.pop(node_id, None)
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
