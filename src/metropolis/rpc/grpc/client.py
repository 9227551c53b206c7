# SPDX-License-Identifier: Apache-2.0
"""A channel to one endpoint: connects when first used, reconnects, notices silence."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

from google.protobuf.message import Message
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, NoAvailableStreamIDError, TooManyStreamsError
from typing_extensions import override

from metropolis.api.methods import Method
from metropolis.base.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    UnavailableError,
)
from metropolis.rpc import status
from metropolis.rpc.channel import ClientStream
from metropolis.rpc.grpc import headers as grpc_headers
from metropolis.rpc.grpc.framing import MessageReader, frame, parse
from metropolis.rpc.grpc.h2_connection import Headers
from metropolis.rpc.grpc.inbox import StreamFailure
from metropolis.rpc.grpc.stream import WireStream
from metropolis.rpc.grpc.wire import Wire

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

Connect = Callable[[], Awaitable[Wire]]  # raises NotReachedError


class ClientHandler:
    """A client accepts no calls."""

    def accept(
        self, stream: WireStream, headers: Headers, release_stream: Callable[[], None]
    ) -> None:
        del headers
        stream.reset_now(ErrorCodes.REFUSED_STREAM)
        release_stream()

    def cancel(self, stream: WireStream) -> None: ...

    def close(self) -> None: ...


class GrpcChannel:
    """Implements `metropolis.rpc.channel.Channel` over real connections."""

    def __init__(
        self,
        connect: Connect,
        *,
        name: str,
        scheme: str,
        authority: str,
        message_bytes_max: int,
    ) -> None:
        self._connect = connect
        self._name = name
        self._scheme = scheme
        self._authority = authority
        self._message_bytes_max = message_bytes_max
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[Wire] | None = None
        self._is_closed = False

    @override
    def __repr__(self) -> str:
        return f"GrpcChannel({self._name})"

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> Res:
        body = frame(request, message_bytes_max=self._message_bytes_max)
        call: _Call[Req, Res] = _Call(self, method, timeout_s)
        try:
            await call.begin(metadata, body=body)
            response = await call.receive()
            if response is None:
                raise InternalError(f"{self._name} ended {method.path} without a response")
            if await call.receive() is not None:
                raise InternalError(f"{self._name} sent several responses to {method.path}")
            return response
        finally:
            call.drop()

    def open(
        self,
        method: Method[Req, Res],
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ClientStream[Req, Res]]:
        return self._open(method, timeout_s, metadata)

    @asynccontextmanager
    async def _open(
        self,
        method: Method[Req, Res],
        timeout_s: float | None,
        metadata: Mapping[str, str] | None,
    ) -> AsyncGenerator[ClientStream[Req, Res], None]:
        call: _Call[Req, Res] = _Call(self, method, timeout_s)
        try:
            await call.begin(metadata)
            yield call
        finally:
            call.drop()

    def give_up_connecting(self) -> None:
        """See `metropolis.rpc.channel.DialledChannel`."""
        if self._connecting is not None:
            self._connecting.cancel()

    async def close(self) -> None:
        """Cut the connection; open calls fail. The channel cannot be used again."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._wire is not None:
            wire, self._wire = self._wire, None
            gone = asyncio.Event()
            wire.on_lost = lambda _reason: gone.set()
            if not wire.is_lost:
                wire.cut("the channel was closed")
                await gone.wait()

    async def wire(self) -> Wire:
        """Return the live connection, making one if there is none.

        Raises:
            NotReachedError: no connection; everybody who waited for this attempt learns it. Or the
                channel was closed by whoever lent it, which its users may learn no sooner.
        """
        if self._is_closed:
            raise status.NotReachedError(f"the channel to {self._name} was closed")
        if self._wire is not None and not self._wire.processor.is_closed:
            return self._wire
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._reconnect())
            self._connecting.add_done_callback(_forget_outcome)
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise status.NotReachedError(f"connecting to {self._name} was given up") from None
            raise

    async def _reconnect(self) -> Wire:
        try:
            self._wire = await self._connect()
            return self._wire
        finally:
            self._connecting = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def message_bytes_max(self) -> int:
        return self._message_bytes_max

    def headers(
        self, path: str, timeout_s: float | None, metadata: Mapping[str, str] | None
    ) -> Headers:
        return grpc_headers.request(
            path,
            scheme=self._scheme,
            authority=self._authority,
            timeout_s=timeout_s,
            metadata=metadata,
        )


def _forget_outcome(attempt: asyncio.Task[Wire]) -> None:
    """Everybody who waited for the attempt may have left; that is no lost exception."""
    if not attempt.cancelled():
        attempt.exception()


class _Call(Generic[Req, Res]):
    """One call as the client sees it; the `ClientStream` of streaming calls."""

    def __init__(
        self, channel: GrpcChannel, method: Method[Req, Res], timeout_s: float | None
    ) -> None:
        self._channel = channel
        self._method = method
        self._timeout_s = timeout_s
        self._deadline_s = (
            None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        )
        self._stream: WireStream | None = None
        self._release: Callable[[], None] | None = None
        self._reader: MessageReader | None = None
        self._outcome: MetropolisError | None = None
        self._has_ended = False
        self._has_sent_request = False
        self._are_headers_judged = False

    async def begin(self, metadata: Mapping[str, str] | None, *, body: bytes | None = None) -> None:
        """Open the stream, connecting if needed, and send the only request if there is one."""
        is_sending = False
        try:
            async with asyncio.timeout_at(self._deadline_s):
                wire = await self._channel.wire()
                await self._open_stream(wire, metadata)
                is_sending = True
                if body is not None:
                    assert self._stream is not None
                    await self._stream.send_data(body, end_stream=True)
        except TimeoutError:
            if is_sending:
                raise self._deadline_error() from None
            raise status.NotReachedError(
                f"{self._channel.name} was not reached within {self._timeout_s:g} s",
                remedy="Check that the machine is up and that the network leads there.",
            ) from None
        except StreamFailure as failure:
            if is_sending and self._has_status():
                return  # the server answered without reading all; `receive` tells
            raise self._failure(failure, was_sent=is_sending) from failure

    async def send(self, message: Req) -> None:
        stream = self._stream
        assert stream is not None
        is_last = not self._method.cardinality.client_streaming
        assert not self._has_sent_request, "nothing can be sent after the end"
        self._has_sent_request = is_last
        data = frame(message, message_bytes_max=self._channel.message_bytes_max)
        try:
            async with asyncio.timeout_at(self._deadline_s):
                await stream.send_data(data, end_stream=is_last)
        except TimeoutError:
            raise self._deadline_error() from None
        except StreamFailure as failure:
            raise self._error_after(failure) from failure

    async def end(self) -> None:
        assert self._stream is not None
        if not self._has_sent_request:
            self._has_sent_request = True
            self._stream.end_now()

    async def receive(self) -> Res | None:
        if self._has_ended:
            if self._outcome is not None:
                raise self._outcome
            return None
        try:
            async with asyncio.timeout_at(self._deadline_s):
                response = await self._receive()
        except TimeoutError:
            self._end(self._deadline_error())
        except StreamFailure as failure:
            self._end(self._error_after(failure))
        except MetropolisError as error:
            self._end(error)
        else:
            if response is not None:
                return response
            self._end(None)
        if self._outcome is not None:
            raise self._outcome
        return None

    def drop(self) -> None:
        """Give the stream back; if it is still open the server is told to stop."""
        if self._stream is not None and self._release is not None:
            release, self._release = self._release, None
            self._stream.reset_now(ErrorCodes.CANCEL)
            release()
        self._outcome = None  # whose stack, once raised, holds this call

    async def _open_stream(self, wire: Wire, metadata: Mapping[str, str] | None) -> None:
        connection = wire.connection
        h2 = connection.h2
        while True:
            if wire.processor.is_closed:
                raise StreamFailure("the connection ended", was_unseen=True)
            if not connection.write_ready.is_set():
                await connection.write_ready.wait()
                continue
            rest_s = None
            if self._deadline_s is not None:
                rest_s = max(0.0, self._deadline_s - asyncio.get_running_loop().time())
            headers = self._channel.headers(self._method.path, rest_s, metadata)
            try:
                stream_id: int = h2.get_next_available_stream_id()
                h2.send_headers(stream_id, headers)
            except TooManyStreamsError:
                connection.stream_close_waiter.clear()
                await connection.stream_close_waiter.wait()
            except NoAvailableStreamIDError:
                wire.cut("the connection is used up")  # after 2^30 calls; the next one reconnects
            except H2Error as error:
                raise StreamFailure("the connection ended", was_unseen=True) from error
            else:
                self._adopt(wire, stream_id)
                return

    def _adopt(self, wire: Wire, stream_id: int) -> None:
        connection = wire.connection
        stream = connection.create_stream(stream_id=stream_id)
        self._release = wire.processor.register(stream)
        self._stream = stream
        self._reader = MessageReader(stream, message_bytes_max=self._channel.message_bytes_max)
        connection.flush_soon()

    async def _receive(self) -> Res | None:
        stream, reader = self._stream, self._reader
        assert stream is not None
        assert reader is not None
        if not self._are_headers_judged:
            headers = dict(await stream.recv_headers())
            self._are_headers_judged = True
            if "grpc-status" not in headers:
                no_grpc = grpc_headers.response_error(headers)
                if no_grpc is not None:
                    raise no_grpc
        try:
            data = await reader.read()
        except InvalidArgumentError as error:
            raise self._bad_response() from error
        if data is not None:
            try:
                return parse(self._method.response_type, data)
            except InvalidArgumentError as error:
                raise self._bad_response() from error
        await stream.recv_trailers()
        outcome = status.from_trailers(self._trailers())
        if outcome is not None:
            raise outcome
        return None

    def _trailers(self) -> dict[str, str]:
        assert self._stream is not None
        if self._stream.trailers is not None:
            return dict(self._stream.trailers)
        return dict(self._stream.headers or [])  # an answer that is nothing but trailers

    def _has_status(self) -> bool:
        return self._stream is not None and "grpc-status" in self._trailers()

    def _end(self, outcome: MetropolisError | None) -> None:
        self._has_ended = True
        # Its stack holds it, and the stream: a cycle. Whoever asks raises it anew.
        self._outcome = None if outcome is None else outcome.with_traceback(None)

    def _error_after(self, failure: StreamFailure) -> MetropolisError:
        """Prefer the status that the server sent before it dropped the stream."""
        if self._has_status():
            error = status.from_trailers(self._trailers())
            if error is not None:
                return error
        return self._failure(failure, was_sent=True)

    def _failure(self, failure: StreamFailure, *, was_sent: bool) -> UnavailableError:
        if failure.is_refusal:
            return status.NotReachedError(
                f"{self._channel.name} refused our certificate: {failure}",
                remedy="Present a certificate of the cluster that the address belongs to.",
            )
        kind: type[UnavailableError] = UnavailableError
        if failure.was_unseen or not was_sent:
            kind = status.NotReachedError
        return kind(
            f"the connection to {self._channel.name} failed: {failure}",
            remedy="Check that the machine is up and that the network leads there.",
        )

    def _bad_response(self) -> InternalError:
        return InternalError(
            f"{self._channel.name} answered {self._method.path} with something unreadable",
            remedy="Check that both sides run compatible versions.",
        )

    def _deadline_error(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"{self._channel.name} did not answer {self._method.path} within {self._timeout_s:g} s",
            remedy="Check whether the operation took effect before repeating it.",
        )
