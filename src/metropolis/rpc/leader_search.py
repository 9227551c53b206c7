# SPDX-License-Identifier: Apache-2.0
"""Who leads the cluster: asked of any one node, and again whenever that changes.

    seeds, members, overrides -> candidates, one after the other
      candidate -> CuratorLocal.GetCurrentLeader: a stream of leaders; stay on it while it lasts
      leader    -> Curator.Watch(NodesInCluster): who else can be asked (if we are let in)

A node that answers `NotLeaderError` names the leader too; that is learned at once.

What a candidate says may be hearsay: a node that is no consensus member repeats what its own
search found. So nobody believes itself, unless it leads, and a candidate whose leader cannot be
reached or does not lead is left for the next one; otherwise nodes could keep each other's errors
alive for ever.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Protocol

from metropolis.api import curator_pb2
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.base.errors import (
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.rpc.backoff import Backoff
from metropolis.rpc.channel import Channel, ClientStream
from metropolis.rpc.pool import ChannelPool
from metropolis.rpc.status import NodeDeletedError, NotLeaderError
from metropolis.rpc.transport import Endpoint

FIRST_ANSWER_S: Final = 5.0  # a candidate that knows a leader says so at once
STEADY_S: Final = 1.0  # a candidate that told for so long was worth asking; no wait after it
# When a leader dies, all nodes notice within milliseconds, and all come to the next one, where a
# connection takes more than 1 ms of CPU. Had they come at once, many would give up in its queue.
CROWD_MIN: Final = 100
CROWD_SPREAD_S: Final = 0.002  # for each of them: somewhat more than it takes
_REFUSALS: Final = (UnauthenticatedError, PermissionDeniedError, UnimplementedError)

LeaderStream = ClientStream[
    curator_pb2.GetCurrentLeaderRequest, curator_pb2.GetCurrentLeaderResponse
]


class Log(Protocol):
    """Where transitions are told; `metropolis.supervision`'s and the standard loggers fit."""

    def info(self, message: str, /, *args: object) -> None: ...

    def warning(self, message: str, /, *args: object) -> None: ...


def spread_s(crowd: int) -> float:
    """Return over how long so many clients spread who lose their leader at the same moment."""
    return crowd * CROWD_SPREAD_S if crowd >= CROWD_MIN else 0.0


class LeaderSearch:
    """Finds the leader and follows it while `follow` runs.

    Attributes:
        leader: Where the leader is, or None while none is known.
        leader_id: Its node id, empty while none is known.
        crowd: How many clients like this one follow the leader.
    """

    def __init__(
        self,
        seeds: Sequence[Endpoint],
        *,
        overrides: Mapping[str, Endpoint],
        rng: Random,
        log: Log,
    ) -> None:
        assert seeds, "somebody must be asked first"
        self.leader: Endpoint | None = None
        self.leader_id = ""
        self.crowd = 1
        self._seeds = tuple(seeds)
        self._overrides = dict(overrides)
        self._members: dict[str, Endpoint] = {}
        self._rng = rng
        self._log = log
        self._listening_to: Endpoint | None = None
        self._patience: asyncio.Timeout | None = None  # with the candidate that is listened to
        self._troubles: dict[Endpoint, MetropolisError] = {}  # why a candidate was no use
        self._refused_by_all = False
        self._changed = asyncio.Event()  # replaced at each change

    def is_wanted(self, endpoint: Endpoint) -> bool:
        return endpoint in (self.leader, self._listening_to)

    async def wait_leader(self, deadline_s: float | None) -> Endpoint:
        """Return where the leader is, waiting until loop time `deadline_s` if none is known.

        Raises:
            UnavailableError: none was found in time; says what was tried.
            UnauthenticatedError: every candidate, or we, refused the other's certificate; or one
                of them, which leads, told us that we are a node that was deleted.
        """
        begun_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline_s):
                while self.leader is None:
                    if self._refused_by_all:
                        refusal = self._refusal()
                        raise type(refusal)(str(refusal), remedy=refusal.remedy)
                    await self.wait_change()
        except TimeoutError:
            waited_s = asyncio.get_running_loop().time() - begun_s
            raise UnavailableError(
                f"no leader of the cluster was found within {waited_s:.1f} s; tried "
                + ", ".join(self._tried()),
                remedy="Check that most nodes of the control plane are up and can be reached.",
            ) from None
        return self.leader

    async def wait_change(self) -> None:
        """Wait until another leader is known, or none, or everybody refused us."""
        await self._changed.wait()

    async def keep_away(self) -> None:
        """Let a crowd that nobody leads not ask all the time: until that changes, or one's turn.

        It would leave whoever is asked no time to win an election.
        """
        if spread_s(self.crowd):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0, spread_s(self.crowd))):
                    await self.wait_change()

    def learn(self, error: NotLeaderError, *, asked: Endpoint) -> bool:
        """Learn from a node that does not lead. Returns whether it named somebody else."""
        if not error.leader_id:
            return False
        endpoint = self._locate(error.leader_id, error.leader_host, asked.tcp_port)
        if endpoint is None or endpoint == asked:
            return False
        self._set_leader(endpoint, error.leader_id)
        return True

    def learn_members(self, members: Mapping[str, Endpoint]) -> None:
        """Replace who can be asked beside the seeds."""
        self._members = dict(members)

    def doubt(self, leader: Endpoint) -> None:
        """The leader could not be reached, or says that it is none: ask another candidate.

        Whoever named it may have been wrong, and speaks again only when its own mind changes.
        """
        patience = self._patience
        if leader == self.leader and patience is not None and not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time())

    async def follow(self, pool: ChannelPool) -> None:
        """Ask candidate after candidate who leads, for ever."""
        backoff = Backoff(self._rng)
        last: Endpoint | None = None
        while True:
            told_s = 0.0
            candidates = self._candidates(after=last)
            for candidate in candidates:
                told_s = await self._listen(pool, candidate)
                if told_s:
                    last = candidate
                    backoff.reset()
                    break
            if told_s >= STEADY_S:  # the next candidate, at once
                await self._wait_turn()
                continue
            troubles = [self._troubles.get(candidate) for candidate in candidates]
            refused = not told_s and (
                all(isinstance(trouble, _REFUSALS) for trouble in troubles)
                or any(isinstance(trouble, NodeDeletedError) for trouble in troubles)
            )
            if refused != self._refused_by_all:
                self._refused_by_all = refused
                self._tell_change()
            await asyncio.sleep(backoff.next_s())

    async def follow_members(self, open_watch: Channel) -> None:
        """Keep learning who can be asked, through `open_watch`, for ever."""
        patient = Backoff(self._rng)
        stubborn = Backoff(self._rng, cap_s=60.0)  # towards a cluster that does not let us watch
        while True:
            try:
                await self._watch_members(open_watch, patient)
                wait_s = patient.next_s()
            except _REFUSALS:
                wait_s = stubborn.next_s()
            except MetropolisError as error:
                self._log.info("Lost sight of the cluster's members: %s", error)
                wait_s = patient.next_s()
            await asyncio.sleep(wait_s)

    async def _wait_turn(self) -> None:
        if spread_s(self.crowd):
            await asyncio.sleep(self._rng.uniform(0, spread_s(self.crowd)))

    async def _listen(self, pool: ChannelPool, candidate: Endpoint) -> float:
        """Follow what one candidate says; return for how many seconds it did, 0 if not at all."""
        now_s = asyncio.get_running_loop().time
        begun_s: float | None = None
        self._listening_to = candidate
        try:
            async with (
                pool.use(candidate) as channel,
                channel.open(CuratorLocal.GET_CURRENT_LEADER) as stream,
            ):
                await stream.send(curator_pb2.GetCurrentLeaderRequest())
                await stream.end()
                while await self._hear(stream, candidate, is_first=begun_s is None):
                    if begun_s is None:
                        begun_s = now_s()
                        self._refused_by_all = False
                        self._troubles.clear()
                    await pool.sweep()
        except MetropolisError as error:
            self._troubles[candidate] = error
            if begun_s is not None:
                self._log.info("%s stopped telling who leads: %s", candidate, error)
        finally:
            self._listening_to = None
        return 0.0 if begun_s is None else max(now_s() - begun_s, 0.001)

    async def _hear(self, stream: LeaderStream, candidate: Endpoint, *, is_first: bool) -> bool:
        """Take one message; returns False at the end or when the candidate is no use."""
        try:
            async with asyncio.timeout(FIRST_ANSWER_S if is_first else None) as self._patience:
                news = await stream.receive()
        except TimeoutError:
            self._troubles[candidate] = UnavailableError(
                "knows of no leader" if is_first else f"named {self.leader}, which does not answer"
            )
            return False
        finally:
            self._patience = None
        if news is None:
            self._troubles[candidate] = UnavailableError("stopped answering")
            return False
        if not news.leader_node_id or (news.leader_host and not news.leader_port):
            self._troubles[candidate] = UnavailableError("knows of no leader")
            return False
        if news.this_node_id in self._overrides and news.leader_node_id != news.this_node_id:
            self._troubles[candidate] = UnavailableError("is this node, which does not lead")
            return False
        port = news.leader_port or candidate.tcp_port
        endpoint = self._locate(news.leader_node_id, news.leader_host, port)
        if endpoint is None:
            self._troubles[candidate] = UnavailableError(
                f"names {news.leader_node_id} as leader, but not where it is"
            )
            return False
        self._set_leader(endpoint, news.leader_node_id)
        return True

    async def _watch_members(self, channel: Channel, backoff: Backoff) -> None:
        seen: dict[str, Endpoint] = {}
        is_whole = False
        everybody = curator_pb2.WatchRequest.NodesInCluster()
        async with channel.open(Curator.WATCH) as stream:
            await stream.send(curator_pb2.WatchRequest(nodes_in_cluster=everybody))
            await stream.end()
            while (event := await stream.receive()) is not None:
                for node in event.nodes:
                    host, curator = node.status.external_address, node.status.running_curator
                    seen.pop(node.id, None)
                    if host and node.status.HasField("running_curator") and curator.port:
                        seen[node.id] = Endpoint(host, curator.port)
                for tombstone in event.node_tombstones:
                    seen.pop(tombstone.node_id, None)
                if event.progress == curator_pb2.WatchEvent.PROGRESS_LAST_BACKLOGGED:
                    is_whole = True
                    backoff.reset()
                if is_whole:
                    self.learn_members(seen)

    def _candidates(self, *, after: Endpoint | None) -> list[Endpoint]:
        """Whom to ask, in turn: sorted, beginning behind the one that was asked last."""
        members = [self._overrides.get(name, at) for name, at in self._members.items()]
        ordered = sorted({*self._seeds, *members})
        if after is None:
            return [*self._seeds, *(x for x in ordered if x not in self._seeds)]
        return [x for x in ordered if x > after] + [x for x in ordered if x <= after]

    def _locate(self, node_id: str, host: str, tcp_port: int) -> Endpoint | None:
        if node_id in self._overrides:
            return self._overrides[node_id]
        return Endpoint(host, tcp_port) if host else self._members.get(node_id)

    def _set_leader(self, endpoint: Endpoint, node_id: str) -> None:
        if endpoint != self.leader:
            self._log.info("The cluster's leader is %s at %s", node_id, endpoint)
            self.leader = endpoint
            self.leader_id = node_id
            self._tell_change()

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _refusal(self) -> MetropolisError:
        troubles = [self._troubles.get(each) for each in self._candidates(after=None)]
        deleted = [trouble for trouble in troubles if isinstance(trouble, NodeDeletedError)]
        return deleted[0] if deleted else self._troubles[self._seeds[0]]

    def _tried(self) -> list[str]:
        return [
            f"{candidate} ({self._troubles.get(candidate, 'no answer yet')})"
            for candidate in self._candidates(after=None)
        ]
