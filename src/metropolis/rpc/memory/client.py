# SPDX-License-Identifier: Apache-2.0
"""The calling side."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic, TypeVar, final

from google.protobuf.message import Message

from metropolis.api.methods import Method
from metropolis.base.errors import (
    CancelledCallError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    UnavailableError,
)
from metropolis.pki.credentials import Credentials
from metropolis.rpc.channel import MESSAGE_BYTES_MAX, ClientStream
from metropolis.rpc.memory import frames
from metropolis.rpc.memory.connection import Connection, End
from metropolis.rpc.memory.messages import Inbox, Outbox, parse, too_large
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.status import NotReachedError, from_trailers
from metropolis.rpc.transport import Endpoint, ServerVerifier

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

_REACH_REMEDY: Final = "Check that the machine is up and that the network leads there."


@final
class _Call(Generic[Req, Res]):
    """One call in progress; a `ClientStream`."""

    def __init__(self, method: Method[Req, Res], end: End, call_id: int) -> None:
        self._method = method
        self._end = end
        self._call_id = call_id
        self._outbox = Outbox(end, call_id)
        self._has_ended = False
        self._is_finished = False
        self.inbox = Inbox()

    async def send(self, message: Req) -> None:
        assert not self._has_ended, "nothing can be sent after the end"
        try:
            await self._outbox.send(message)
        except MetropolisError:
            if self.inbox.error is not None:
                raise self.inbox.error from None  # the server's verdict says more
            raise
        if not self._method.cardinality.client_streaming:
            await self.end()

    async def end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._end.send(frames.HalfClose(call_id=self._call_id))

    async def receive(self) -> Res | None:
        data = await self.inbox.receive()
        if data is None:
            return None
        try:
            return parse(self._method.response_type, data)
        except InvalidArgumentError as error:
            raise InternalError(
                f"the server answered {self._method.path} with something unreadable",
                remedy="Check that both sides run compatible versions.",
            ) from error

    def take(self, frame: frames.Frame) -> None:
        """Handle a frame of this call."""
        if isinstance(frame, frames.Message):
            if len(frame.data) > MESSAGE_BYTES_MAX:
                self.fail(too_large(len(frame.data)))
                self.cancel()
            else:
                self.inbox.put(frame)
        elif isinstance(frame, frames.Finish):
            self._is_finished = True
            error = from_trailers(frame.trailers)
            self.inbox.end(error)
            self._outbox.fail(error or CancelledCallError("the server has ended the call"))

    def fail(self, error: MetropolisError) -> None:
        """End the call on this side."""
        self.inbox.end(error, is_urgent=isinstance(error, DeadlineExceededError))
        self._outbox.fail(error)

    def cancel(self) -> None:
        """Tell the server that nobody waits any more, unless it has ended the call."""
        if not self._is_finished:
            self._end.send(frames.Cancel(call_id=self._call_id))


@final
class MemoryChannel:
    """See `metropolis.rpc.channel.Channel`."""

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        endpoint: Endpoint,
        *,
        credentials: Credentials | None,
        verify: ServerVerifier,
    ) -> None:
        self._network = network
        self._address = address
        self._endpoint = endpoint
        self._certificate = None if credentials is None else credentials.certificate
        self._verify = verify
        self._connecting = asyncio.Lock()
        self._patience: asyncio.Timeout | None = None  # with the attempt to connect
        self._end: End | None = None
        self._calls: dict[int, _Call[Any, Any]] = {}
        self._last_call_id = 0
        self._is_closed = False

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,  # noqa: ARG002  # only etcd reads any
    ) -> Res:
        async with self.open(method, timeout_s=timeout_s) as stream:
            await stream.send(request)
            await stream.end()
            response = await stream.receive()
            if response is None:
                raise InternalError(f"{self._endpoint} ended {method.path} without a response")
            if await stream.receive() is not None:  # waits for the status, which alone counts
                raise InternalError(f"{self._endpoint} sent several responses to {method.path}")
            return response

    def open(
        self,
        method: Method[Req, Res],
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,  # noqa: ARG002  # as above
    ) -> AbstractAsyncContextManager[ClientStream[Req, Res]]:
        return self._open(method, timeout_s)

    def give_up_connecting(self) -> None:
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        self._is_closed = True
        if self._end is not None:
            self._end.close()
            self._lost(self._end, "this side closed the channel")

    @asynccontextmanager
    async def _open(
        self, method: Method[Req, Res], timeout_s: float | None
    ) -> AsyncGenerator[ClientStream[Req, Res], None]:
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout_s is None else loop.time() + timeout_s
        late = DeadlineExceededError(
            f"{self._endpoint} did not answer {method.path} within {timeout_s} s",
            remedy="Check whether the operation took effect before repeating it.",
        )
        try:
            async with asyncio.timeout_at(deadline_s):
                end = await self._connected()
        except TimeoutError:
            raise NotReachedError(
                f"{self._endpoint} was not reached within {timeout_s} s", remedy=_REACH_REMEDY
            ) from None
        self._last_call_id += 1
        call_id = self._last_call_id
        call: _Call[Req, Res] = _Call(method, end, call_id)
        self._calls[call_id] = call
        left_s = None if deadline_s is None else max(0.0, deadline_s - loop.time())
        end.send(frames.Open(call_id=call_id, path=method.path, timeout_s=left_s))
        timer = None if deadline_s is None else loop.call_at(deadline_s, call.fail, late)
        try:
            yield call
        finally:
            if timer is not None:
                timer.cancel()
            del self._calls[call_id]
            call.cancel()
            call.fail(CancelledCallError("the caller left the call"))

    async def _connected(self) -> End:
        """Connect, or wait for the one who already does."""
        if self._is_closed:
            raise NotReachedError(f"the channel to {self._endpoint} was closed")
        async with self._connecting:
            if self._end is None:
                connection = await self._connect()
                end = connection.client
                end.on_frame = self._take
                end.on_lost = lambda reason: self._lost(end, reason)
                self._end = end
            return self._end

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(None) as self._patience:
                return await self._network.connect(
                    self._address,
                    self._endpoint,
                    certificate=self._certificate,
                    verify=self._verify,
                )
        except TimeoutError:
            raise NotReachedError(f"connecting to {self._endpoint} was given up") from None
        finally:
            self._patience = None

    def _take(self, frame: frames.Frame) -> None:
        assert not isinstance(frame, frames.Goodbye), "connections keep goodbyes to themselves"
        call = self._calls.get(frame.call_id)
        if call is not None:
            call.take(frame)

    def _lost(self, end: End, reason: str) -> None:
        if self._end is end:
            self._end = None
        error = UnavailableError(
            f"the connection to {self._endpoint} broke: {reason}", remedy=_REACH_REMEDY
        )
        for call in [*self._calls.values()]:
            call.fail(error)
