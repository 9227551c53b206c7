# SPDX-License-Identifier: Apache-2.0
"""What watchers were told lately, so that others who are told the same share it."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from metropolis.api.curator_pb2 import WatchEvent
from metropolis.rpc.channel import Packed

Versions = tuple[tuple[bytes, int], ...]  # keys, each with its revision; together they say it all
Events = list[Packed[WatchEvent]]

# 10,000 nodes are 3 MB, and as much again encoded. All who come while nothing changes share one.
BACKLOGS_MAX: Final = 1
# Watchers are at most a few turns of the loop apart. Larger ones are those of slow watchers.
CHANGES_MAX: Final = 32
SHARED_KEYS_MAX: Final = 64


class Told:
    """Remembers the last few of a kind.

    Args:
        events_max: How many to remember.
        keys_max: What follows from more keys than so many is not remembered; None: all is.
    """

    def __init__(self, *, events_max: int, keys_max: int | None = None) -> None:
        self._events_max = events_max
        self._keys_max = keys_max
        self._known: OrderedDict[Versions, Events] = OrderedDict()

    def get(self, versions: Versions, make: Callable[[], Events]) -> Events:
        """Return what follows from `versions`; make it if nobody was told that lately."""
        known = self._known.get(versions)
        if known is not None:
            self._known.move_to_end(versions)
            return known
        made = make()
        if self._keys_max is None or len(versions) <= self._keys_max:
            self._known[versions] = made
            if len(self._known) > self._events_max:
                self._known.popitem(last=False)
        return made


class ToldWatchers:
    """Of one cache."""

    def __init__(self) -> None:
        self.backlog = Told(events_max=BACKLOGS_MAX)
        self.changes = Told(events_max=CHANGES_MAX, keys_max=SHARED_KEYS_MAX)
