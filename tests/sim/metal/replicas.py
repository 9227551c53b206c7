# SPDX-License-Identifier: Apache-2.0
"""Replicas that crash, and channels to them that lose requests, answers and streams."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Literal, TypeVar

from google.protobuf.message import Message

from metropolis.api.methods import Method
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.boot.server import partition_services
from metropolis.metal.http.application import Application
from metropolis.metal.main import make_application
from metropolis.metal.site import Site
from metropolis.metal.store import Change, Reader, Store, Transaction
from metropolis.metal.waiters import Waiters
from metropolis.rpc.channel import ClientStream, Packed
from metropolis.rpc.peer import Peer, PeerKind
from unit.metal.http.client import KEYS

ResultT = TypeVar("ResultT")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class Boundaries:
    """A store that cancels its caller when it has begun or ended so many transactions.

    Attributes:
        left: How many boundaries are still passed; None: all.
        after_write: Called after every commit.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.left: int | None = None
        self.victim: asyncio.Task[Any] | None = None
        self.after_write: Callable[[], Awaitable[None]] | None = None

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        return self._store.dialect

    @property
    def trouble(self) -> str:
        return self._store.trouble

    async def read(self, view: Callable[[Reader], Awaitable[ResultT]]) -> ResultT:
        await self._pass()
        return await self._store.read(view)

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        await self._pass()
        result = await self._store.write(change, serial=serial)
        if self.after_write is not None:
            await self.after_write()
        await self._pass()
        return result

    async def once(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        await self._pass()
        rows = await self._store.once(sql, *args)
        await self._pass()
        return rows

    def watch(self, after: int) -> AsyncGenerator[Sequence[Change]]:
        return self._store.watch(after)

    async def close(self) -> None:
        await self._store.close()

    async def _pass(self) -> None:
        task = asyncio.current_task()
        if self.left is None or task is None or task is not self.victim:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            task.cancel()
            await asyncio.sleep(0)  # the caller ends here


class SimReplica:
    """A replica: everything in it ends when it crashes."""

    def __init__(self, site: Site, store: Boundaries) -> None:
        self.site = site
        self.store = store
        self.is_up = False
        self.application: Application = make_application(site, HmacKeys(keys=KEYS))
        self._calls: dict[asyncio.Task[Any], None] = {}
        self._died = asyncio.Event()

    async def run(self, loops: Sequence[Callable[[Site], Awaitable[None]]]) -> None:
        """Live, crash, live again, for ever."""
        while True:
            waiters = Waiters(self.site.store)
            self.handlers = partition_services(self.site, waiters).by_path
            self._died.clear()
            self.is_up = True
            async with asyncio.TaskGroup() as group:
                self.group = group
                tasks = [group.create_task(waiters.run())]
                tasks += [group.create_task(each(self.site)) for each in loops]  # type: ignore[arg-type]
                try:
                    await self._died.wait()
                finally:
                    self.is_up = False
                for task in [*tasks, *self._calls]:
                    task.cancel()
            await asyncio.sleep(5.0)

    def crash(self) -> None:
        """End everything at once."""
        self._died.set()

    def start(self, work: Callable[[], Awaitable[ResultT]]) -> "asyncio.Task[ResultT]":
        """Run a call that ends with the replica."""
        task = self.group.create_task(_contained(work))
        self._calls[task] = None
        task.add_done_callback(lambda done: self._calls.pop(done, None))
        return task  # type: ignore[return-value]


async def _contained(work: Callable[[], Awaitable[ResultT]]) -> "ResultT | Exception":
    """Return an operating error: it is the caller's, and no reason to end the replica."""
    try:
        return await work()
    except MetropolisError as error:
        return error


def _gone(what: str) -> UnavailableError:
    return UnavailableError(f"the network lost {what}", remedy="Try again.")


class SimChannel:
    """Calls any replica that is up; what it loses is decided by chance.

    Attributes:
        loss: How much is lost, of 1.
    """

    def __init__(
        self, replicas: Sequence[SimReplica], chance: Random, *, certificate: bytes = b""
    ) -> None:
        self._replicas = replicas
        self._chance = chance
        self._peer = Peer(kind=PeerKind.USER, identity="machine", certificate=certificate)
        self.loss = 0.0

    def _replica(self) -> SimReplica:
        up = [each for each in self._replicas if each.is_up]
        if not up:
            raise _gone("its way")
        return self._chance.choice(up)

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> Res:
        del metadata
        await asyncio.sleep(self._chance.uniform(0.001, 0.2))
        replica = self._replica()
        if self._chance.random() < self.loss:
            raise _gone("a request")
        handler = replica.handlers[method.path].unary
        assert handler is not None
        sent = method.request_type.FromString(request.SerializeToString())
        answer = await answer_of(replica.start(lambda: handler(sent, self._peer)), timeout_s)
        await asyncio.sleep(self._chance.uniform(0.001, 0.2))
        if self._chance.random() < self.loss:
            raise _gone("an answer")
        return method.response_type.FromString(answer.SerializeToString())

    @asynccontextmanager
    async def open(
        self,
        method: Method[Req, Res],
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ClientStream[Req, Res]]:
        del timeout_s, metadata
        await asyncio.sleep(self._chance.uniform(0.001, 0.2))
        replica = self._replica()
        handler = replica.handlers[method.path].stream
        assert handler is not None
        stream = _Stream(self, method)
        task = replica.start(lambda: handler(_ServerHalf(stream, self._peer)))
        task.add_done_callback(stream.finish)
        try:
            yield stream
        finally:
            task.cancel()

    async def close(self) -> None:
        pass

    def loses(self) -> bool:
        """Decide about one message of a stream; losing one loses the stream."""
        return self._chance.random() < self.loss / 10

    def give_up_connecting(self) -> None:
        pass


async def answer_of(task: "asyncio.Task[ResultT]", timeout_s: float) -> ResultT:
    """Wait for a call at a replica, which may crash meanwhile."""
    done, _ = await asyncio.wait([task], timeout=timeout_s)
    if not done:
        raise _gone("an answer")
    if task.cancelled():
        raise _gone("a replica")
    result = task.result()
    if isinstance(result, MetropolisError):
        raise result
    return result


class _Stream:
    """The caller's half."""

    def __init__(self, channel: SimChannel, method: Method[Any, Any]) -> None:
        self.channel = channel
        self.method = method
        self.up: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.down: asyncio.Queue[bytes | MetropolisError | None] = asyncio.Queue()

    async def send(self, message: Any) -> None:
        if self.channel.loses():
            raise _gone("a stream")
        self.up.put_nowait(message.SerializeToString())

    async def end(self) -> None:
        self.up.put_nowait(None)

    async def receive(self) -> Any:
        item = await self.down.get()
        if isinstance(item, MetropolisError):
            raise item
        if item is not None and self.channel.loses():
            raise _gone("a stream")
        return None if item is None else self.method.response_type.FromString(item)

    def finish(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            self.down.put_nowait(_gone("a replica"))
        elif (error := task.exception()) is not None:
            self.down.put_nowait(_gone(repr(error)))
        else:
            result = task.result()
            self.down.put_nowait(result if isinstance(result, MetropolisError) else None)


class _ServerHalf:
    def __init__(self, stream: _Stream, peer: Peer) -> None:
        self._stream = stream
        self.peer = peer

    async def receive(self) -> Any:
        item = await self._stream.up.get()
        return None if item is None else self._stream.method.request_type.FromString(item)

    async def send(self, message: Any) -> None:
        self._stream.down.put_nowait(message.SerializeToString())

    async def send_packed(self, packed: Packed[Any]) -> None:
        self._stream.down.put_nowait(packed.data)
