# SPDX-License-Identifier: Apache-2.0
"""Which Ethernet device a machine without a configuration uses. Pure.

The first device on which a DHCP server answers; of several that answer within a moment the first
in the order of the bus, so that the same machine makes the same choice at every boot. One device
at a time: with two, two networks would fight for the default route and the name servers. The
choice stays until its lease is lost, or its cable is out and another device has an answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PATIENCE_S: Final = 3.0  # how long a first answer waits for that of a device before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An Ethernet device.

    Attributes:
        answered_s: Since when it holds a lease, monotonic; None when it holds none.
    """

    index: int
    name: str
    has_carrier: bool
    answered_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do now.

    Attributes:
        chosen: Index of the device to use, None for none.
        asks: Indexes of the devices on which a DHCP client runs.
        look_again_s: When to choose again even if nothing changes; infinity for never.
        waits_for: What is awaited, empty when nothing is.
    """

    chosen: int | None
    asks: Sequence[int]
    look_again_s: float = math.inf
    waits_for: str = ""


def choose_device(candidates: Sequence[Candidate], chosen: int | None, *, now_s: float) -> Choice:
    """Choose among devices, given in the order of the bus, and the present choice."""
    everyone = [each.index for each in candidates]
    present = next((each for each in candidates if each.index == chosen), None)
    if present is not None and present.answered_s is None:
        present = None
    if present is not None and present.has_carrier:
        return Choice(chosen=present.index, asks=[present.index])
    answered = [each for each in candidates if each.answered_s is not None and each.has_carrier]
    if present is not None:  # no cable, but its lease still runs
        return Choice(
            chosen=answered[0].index if answered else present.index,
            asks=everyone,
            waits_for="" if answered else f"a cable in {present.name}",
        )
    if answered:
        return _among(candidates, answered, everyone, now_s=now_s)
    return Choice(chosen=None, asks=everyone, waits_for=_missing(candidates))


def _among(
    candidates: Sequence[Candidate],
    answered: Sequence[Candidate],
    everyone: Sequence[int],
    *,
    now_s: float,
) -> Choice:
    first_s = min(each.answered_s for each in answered if each.answered_s is not None)
    before = candidates[: candidates.index(answered[0])]
    silent = [each for each in before if each.has_carrier]
    if silent and now_s < first_s + PATIENCE_S:
        names = ", ".join(each.name for each in silent)
        return Choice(
            chosen=None,
            asks=everyone,
            look_again_s=first_s + PATIENCE_S,
            waits_for=f"a DHCP server at {names}, for {PATIENCE_S:.0f} s",
        )
    return Choice(chosen=answered[0].index, asks=[answered[0].index])


def _missing(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "an Ethernet device: this machine has none, or no driver for it"
    wired = [each.name for each in candidates if each.has_carrier]
    if not wired:
        return f"a cable in {' or '.join(each.name for each in candidates)}"
    return f"a DHCP server at {', '.join(wired)}"
