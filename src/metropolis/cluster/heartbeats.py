# SPDX-License-Identifier: Apache-2.0
"""When nodes were heard, and what the next leader is told about it.

    Heartbeat ──▶ Heartbeats ──▶ pulse ──▶ health of a node
                     │   ▲
      every 5 s,     ▼   │  once, before it leads
      if it changed  one small key in the store: who was silent, and when that was seen

The note is as small as the trouble is: it names the silent only, `SILENT_MAX` at most. A leader
writes none of its own before it knows whose silence counts; until then it only takes from the note
it found those that came back, so that a third leader, too, hears what the first knew.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.health_pb2 import HealthMemory, SilentNode
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError, chain
from metropolis.cluster.cache import NodeCache
from metropolis.cluster.planner.health import (
    HEARTBEAT_INTERVAL_S,
    HEARTBEAT_TIMEOUT_S,
    Pulse,
    extended_grace_s,
    judge,
)
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import Change, FencedStore
from metropolis.consensus.store import Get, Put
from metropolis.host import Clock
from metropolis.rpc.status import NotLeaderError
from metropolis.supervision import Logger

LOOK_S: Final = HEARTBEAT_INTERVAL_S
REFRESH_S: Final = 30.0  # after which a note is written anew although nobody's silence changed
NEWS_DELAY_S: Final = 0.5  # after a silent node was heard: for others that come back with it
SILENT_MAX: Final = 512  # 40 KiB; who is left out is unknown to the next leader for a moment

_NO_NOTE: Final[Mapping[str, float | None]] = {}


@dataclass(slots=True, kw_only=True)
class Heartbeats:
    """When nodes were last heard, in loop time; since when somebody listens; what was before.

    Attributes:
        silent_before: Who was silent under the leader before, and when it was heard last.
        vouched_s: When that leader saw that all others were heard; None: nobody said so.
        news: Set when one comes back whose silence is written down.
    """

    tenure_start_s: float
    heard_s: dict[str, float] = field(default_factory=dict[str, float])
    silent_before: Mapping[str, float | None] = field(default_factory=lambda: _NO_NOTE)
    vouched_s: float | None = None
    written_silent: Mapping[str, object] = field(default_factory=dict[str, object])
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _extended_s: float = float("-inf")

    @property
    def grace_end_s(self) -> float:
        """When silence begins to count."""
        return max(self._extended_s, self.tenure_start_s + HEARTBEAT_TIMEOUT_S)

    def hear(self, node_id: str) -> None:
        """Note a heartbeat."""
        now_s = _now_s()
        if node_id not in self.heard_s:
            self._extended_s = extended_grace_s(
                tenure_start_s=self.tenure_start_s, grace_end_s=self.grace_end_s, now_s=now_s
            )
        self.heard_s[node_id] = now_s
        if node_id in self.written_silent:
            self.news.set()

    def pulse(self, node_id: str, *, now_s: float | None = None) -> Pulse:
        """Return what is known about a node now, or as of a moment ago."""
        was_silent = node_id in self.silent_before
        return Pulse(
            last_heard_s=self.heard_s.get(node_id),
            tenure_start_s=self.tenure_start_s,
            now_s=_now_s() if now_s is None else now_s,
            grace_end_s=self.grace_end_s,
            before_s=self.silent_before[node_id] if was_silent else self.vouched_s,
            was_silent=was_silent,
        )


class HealthNote:
    """Reads the note of the leader before, and keeps the one for the next.

    Args:
        log: Told what cannot be read or written; neither stops anything.
    """

    def __init__(
        self,
        heartbeats: Heartbeats,
        nodes: NodeCache,
        store: FencedStore,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._heartbeats = heartbeats
        self._nodes = nodes
        self._store = store
        self._clock = clock
        self._log = log
        self._found = HealthMemory()
        self._told: list[str] = []  # whose silence is written down now
        self._told_s = float("-inf")

    async def load(self) -> None:
        """Learn what the leader before knew."""
        try:
            stored = (await self._store.read(Get(keys.HEALTH))).one(0)
            note = HealthMemory() if stored is None else HealthMemory.FromString(stored.value)
        except (DecodeError, MetropolisError) as error:
            self._log.warning("What the last leader knew of nodes' health is lost: %s", error)
            return
        if not note.HasField("as_of"):
            return
        heartbeats = self._heartbeats
        heartbeats.vouched_s = self._loop_time(note.as_of.ToDatetime(UTC))
        heartbeats.silent_before = {
            each.node_id: (
                self._loop_time(each.last_heard.ToDatetime(UTC))
                if each.HasField("last_heard")
                else None
            )
            for each in note.silent
        }
        self._found = note
        self._told = [each.node_id for each in note.silent]
        heartbeats.written_silent = heartbeats.silent_before

    async def run(self) -> None:
        """Keep the note true for as long as this node leads."""
        news = self._heartbeats.news
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await news.wait()
                    await asyncio.sleep(NEWS_DELAY_S)
            except TimeoutError:
                pass
            news.clear()
            try:
                await self.write()
            except NotLeaderError:
                pass  # the tenure is about to end
            except MetropolisError as error:
                self._log.warning("The next leader is not told who is silent: %s", chain(error))

    async def write(self) -> None:
        """Write the note, if it says something new.

        Raises:
            MetropolisError: it was not written, as far as this side knows.
        """
        is_settled = _now_s() > self._heartbeats.grace_end_s
        note = self._own_note() if is_settled else self._inherited_note()
        silent = [each.node_id for each in note.silent]
        is_fresh = not is_settled or _now_s() - self._told_s < REFRESH_S
        if silent == self._told and is_fresh:
            return
        put = Put(keys.HEALTH, note.SerializeToString(deterministic=True))
        await self._store.write(Change(operations=(put,)))
        self._told, self._told_s = silent, _now_s()
        self._heartbeats.written_silent = dict.fromkeys(silent)

    def _own_note(self) -> HealthMemory:
        note = HealthMemory()
        note.as_of.FromDatetime(self._clock.wall())
        for record in self._nodes.all():
            pulse = self._heartbeats.pulse(record.node_id)
            if judge(record.state, pulse) != Node.HEALTH_HEARTBEAT_TIMEOUT:
                continue
            silent = note.silent.add(node_id=record.node_id)
            last_s = pulse.before_s if pulse.last_heard_s is None else pulse.last_heard_s
            if last_s is not None:
                silent.last_heard.FromDatetime(self._wall(last_s))
            if len(note.silent) == SILENT_MAX:
                break
        return note

    def _inherited_note(self) -> HealthMemory:
        """Return the note as it was found, without those that came back since."""
        heard = self._heartbeats.heard_s
        still = [each for each in self._found.silent if each.node_id not in heard]
        note = HealthMemory(
            silent=[SilentNode.FromString(each.SerializeToString()) for each in still]
        )
        if self._found.HasField("as_of"):
            note.as_of.CopyFrom(self._found.as_of)
        return note

    def _loop_time(self, wall: datetime) -> float:
        """Return when that was; never in the future, whatever clocks say."""
        return _now_s() - max(0.0, (self._clock.wall() - wall).total_seconds())

    def _wall(self, loop_s: float) -> datetime:
        return self._clock.wall() - timedelta(seconds=_now_s() - loop_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
