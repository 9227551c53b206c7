# SPDX-License-Identifier: Apache-2.0
"""A channel to a whole cluster: finds the leader from any one node's address, and follows it.

Nothing is forwarded between nodes, because a forwarded call would carry the follower's identity.
So the caller's side goes where the leader is, before, during and after a change.

A unary call is repeated, within its deadline, only if it certainly did nothing: the connection was
refused or broke before the request left (`NotReachedError`), or the server said that it does not
lead (`NotLeaderError`). What may have been executed is never repeated; that error is the caller's.
A stream is repeated only until it is open; after that its failure is the caller's, too.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from types import TracebackType
from typing import Final, Self, TypeVar

from google.protobuf.message import Message

from metropolis.api.methods import Method
from metropolis.base.errors import MetropolisError
from metropolis.pki.credentials import Credentials
from metropolis.rpc.backoff import Backoff
from metropolis.rpc.channel import ClientStream
from metropolis.rpc.leader_search import LeaderSearch, Log
from metropolis.rpc.pool import ChannelPool
from metropolis.rpc.status import NotLeaderError, NotReachedError
from metropolis.rpc.transport import Endpoint, ServerVerifier, Transport

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

OPEN_WAIT_S: Final = 30.0  # for a leader, when a stream has no timeout of its own
_RETRY_CAP_S: Final = 2.0  # between repetitions of one call; its deadline ends them


class ClusterChannel:
    """Implements `Channel` towards whichever node leads the cluster.

    Use it as `async with ClusterChannel(...) as channel:`; the searches run while the block does,
    and an error of theirs (a bug) ends the block. Whoever has a place for them already runs `run`
    there instead, and calls `close` at the end.

    Args:
        transport: Carries the calls.
        seeds: Nodes to ask first, in order; one that answers is enough.
        credentials: What we present, to every node.
        verify: Judges the certificate of every node.
        rng: Spreads the waits.
        overrides: Where to reach nodes, by id, whatever they say: a node reaches itself by
            loopback.
        follows_members: Whether to learn more nodes from the cluster. Not being let in is fine.
            Whoever watches the nodes anyway says so to `learn_members` instead.
        log: Where a change of the leader is told.
    """

    def __init__(
        self,
        transport: Transport,
        seeds: Sequence[Endpoint],
        *,
        credentials: Credentials | None,
        verify: ServerVerifier,
        rng: Random,
        overrides: Mapping[str, Endpoint] | None = None,
        follows_members: bool = True,
        log: Log | None = None,
    ) -> None:
        self._search = LeaderSearch(
            seeds,
            overrides=overrides or {},
            rng=rng,
            log=log or logging.getLogger("metropolis.rpc"),
        )
        self._pool = ChannelPool(
            lambda endpoint: transport.dial(endpoint, credentials=credentials, verify=verify),
            is_wanted=self._search.is_wanted,
        )
        self._rng = rng
        self._follows_members = follows_members
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def leader(self) -> Endpoint | None:
        """Where the leader is, as far as known now."""
        return self._search.leader

    @property
    def leader_id(self) -> str:
        """Node id of the leader, as far as known now; else empty."""
        return self._search.leader_id

    def learn_members(self, members: Mapping[str, Endpoint]) -> None:
        """Replace the nodes that can be asked who leads, beside the seeds; by node id.

        Who says so is a node itself, and all of them follow the leader.
        """
        self._search.learn_members(members)
        self._search.crowd = len(members)

    async def wait_leader_change(self) -> None:
        """Wait until another leader is known."""
        await self._search.wait_change()

    async def __aenter__(self) -> Self:
        self._group = await asyncio.TaskGroup().__aenter__()
        self._start(self._group)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._group is not None
        group, self._group = self._group, None
        for task in self._tasks:
            task.cancel()
        try:
            if isinstance(error, asyncio.CancelledError):  # perhaps the group's, for a bug of ours
                await group.__aexit__(kind, error, traceback)
            else:  # the block's own error leaves it as it is, not wrapped in a group
                await group.__aexit__(None, None, None)
        finally:
            await self.close()

    async def run(self) -> None:
        """Search and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._start(group)

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> Res:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        backoff = Backoff(self._rng, cap_s=_RETRY_CAP_S)
        while True:
            leader = await self._search.wait_leader(deadline_s)
            try:
                async with self._pool.use(leader) as channel:
                    return await channel.call(
                        method,
                        request,
                        timeout_s=max(0.001, deadline_s - loop.time()),
                        metadata=metadata,
                    )
            except (NotReachedError, NotLeaderError) as error:
                await self._before_repeating(error, leader, deadline_s, backoff)

    def open(
        self,
        method: Method[Req, Res],
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ClientStream[Req, Res]]:
        return self._open(method, timeout_s, metadata)

    async def close(self) -> None:
        await self._pool.close()

    def _start(self, group: asyncio.TaskGroup) -> None:
        self._tasks = [group.create_task(self._search.follow(self._pool))]
        if self._follows_members:
            self._tasks.append(group.create_task(self._search.follow_members(self)))

    @asynccontextmanager
    async def _open(
        self,
        method: Method[Req, Res],
        timeout_s: float | None,
        metadata: Mapping[str, str] | None,
    ) -> AsyncGenerator[ClientStream[Req, Res], None]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + (OPEN_WAIT_S if timeout_s is None else timeout_s)
        backoff = Backoff(self._rng, cap_s=_RETRY_CAP_S)
        is_open = False
        while not is_open:
            leader = await self._search.wait_leader(deadline_s)
            rest_s = None if timeout_s is None else max(0.001, deadline_s - loop.time())
            try:
                async with (
                    self._pool.use(leader) as channel,
                    channel.open(method, timeout_s=rest_s, metadata=metadata) as stream,
                ):
                    is_open = True
                    yield stream
            except NotLeaderError as error:
                if not self._search.learn(error, asked=leader):
                    self._search.doubt(leader)
                    await self._search.keep_away()
                raise
            except NotReachedError as error:
                if is_open:
                    raise
                await self._before_repeating(error, leader, deadline_s, backoff)

    async def _before_repeating(
        self, error: MetropolisError, asked: Endpoint, deadline_s: float, backoff: Backoff
    ) -> None:
        """Wait until the call may go better: at another leader, or a little later.

        Raises:
            MetropolisError: `error`, because its deadline comes first.
        """
        if not (isinstance(error, NotLeaderError) and self._search.learn(error, asked=asked)):
            self._search.doubt(asked)
        wait_s = backoff.next_s()
        if self._search.leader != asked:
            wait_s /= 10  # somebody else is said to lead; but two may point at each other
        loop = asyncio.get_running_loop()
        if loop.time() + wait_s >= deadline_s:
            raise error
        try:
            async with asyncio.timeout(wait_s):
                await self._search.wait_change()
        except TimeoutError:
            pass
