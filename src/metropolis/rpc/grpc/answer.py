# SPDX-License-Identifier: Apache-2.0
"""One call as the server sees it: judge the caller, run the handler, answer or refuse."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from h2.errors import ErrorCodes

from metropolis.base.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
)
from metropolis.rpc import status
from metropolis.rpc.channel import Packed, Registration
from metropolis.rpc.grpc.framing import MessageReader, frame, frame_data, parse
from metropolis.rpc.grpc.h2_connection import FINE, RESPONSE
from metropolis.rpc.grpc.headers import decode_timeout
from metropolis.rpc.grpc.inbox import StreamFailure
from metropolis.rpc.grpc.stream import WireStream
from metropolis.rpc.limits import Limits
from metropolis.rpc.meter import CANCELLED, CallMeter
from metropolis.rpc.peer import Peer
from metropolis.rpc.transport import Authenticator, MetadataJudge

log: Final = logging.getLogger("metropolis.rpc")

_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(slots=True, kw_only=True)
class CallContext:
    """What the calls of one connection share."""

    authenticator: Authenticator
    limits: Limits
    certificate: bytes | None
    address: str
    meter: CallMeter
    peer: Peer | None = None  # who is at the other end, once known
    judge: MetadataJudge | None = None


class ServerCall:
    """One call. Also the `ServerStream` of its handler."""

    def __init__(
        self,
        context: CallContext,
        registration: Registration,
        stream: WireStream,
        headers: Mapping[str, str],
    ) -> None:
        self._context = context
        self._registration = registration
        self._method = registration.method
        self._stream = stream
        self._headers = headers  # until they were judged
        self._peer: Peer | None = None
        self._reader = MessageReader(stream, message_bytes_max=context.limits.message_bytes)
        self._only_request: Message | None = None  # of a method without a request stream
        self._has_sent = False  # headers
        self._responses = 0

    @property
    def peer(self) -> Peer:
        assert self._peer is not None, "set before the handler runs"
        return self._peer

    async def receive(self) -> Message | None:
        if self._method.cardinality.client_streaming:
            data = await self._reader.read()
            return None if data is None else parse(self._method.request_type, data)
        request, self._only_request = self._only_request, None
        return request

    async def send(self, message: Message) -> None:
        await self._send(frame(message, message_bytes_max=self._context.limits.message_bytes))

    async def send_packed(self, packed: Packed[Message]) -> None:
        limit = self._context.limits.message_bytes
        await self._send(frame_data(packed.data, message_bytes_max=limit))

    async def _send(self, data: bytes) -> None:
        if not self._has_sent:
            self._has_sent = True
            self._stream.send_now(list(RESPONSE), is_last=False)
        self._responses += 1
        await self._stream.send_data(data)

    async def run(self) -> None:
        """Serve the call to its end, and count it. Raises nothing but cancellation."""
        loop = asyncio.get_running_loop()
        calls = self._context.meter.begin(self._method)
        began_s, code = loop.time(), CANCELLED
        scope: asyncio.Timeout | None = None
        error: MetropolisError | None = None
        try:
            try:
                deadline_s = decode_timeout(self._headers.get("grpc-timeout"))
                if deadline_s is None:
                    await self._serve()
                else:
                    async with asyncio.timeout(deadline_s) as scope:
                        await self._serve()
            except StreamFailure:
                return  # nobody is listening
            except TimeoutError as timeout:
                error = (
                    _deadline_passed(self._method.path)
                    if scope is not None and scope.expired()
                    else status.to_answer(timeout, self._method.path)
                )
            except asyncio.CancelledError as cancelled:
                task = asyncio.current_task()
                if task is None or task.cancelling() or self._stream.failure is not None:
                    raise
                error = status.to_answer(RuntimeError(repr(cancelled)), self._method.path)
            except Exception as failure:  # noqa: BLE001 - whatever a handler raises becomes an answer
                error = status.to_answer(failure, self._method.path)
            if error is None:
                code = status.GRPC_OK
                self._stream.send_now(list(FINE), is_last=True)
                self._stream.reset_now(ErrorCodes.NO_ERROR)  # should the caller still be sending
            else:
                code = error.grpc_status
                refuse(self._stream, error, after_headers=self._has_sent)
                del error  # which may have been raised here: its stack would hold it, and all this
        finally:
            calls.end(code, loop.time() - began_s)

    async def _serve(self) -> None:
        context = self._context
        method = self._method
        peer = context.authenticator.authenticate(method, context.certificate, context.address)
        if context.judge is not None:
            context.judge.judge_metadata(method, self._headers, peer)
        self._headers = _NO_HEADERS  # 1 KiB of each watch, of which there are thousands
        self._peer = peer
        if context.peer is None:
            context.peer = peer
        if not method.cardinality.client_streaming:
            if self._stream.buffer.has_ended:
                self._only_request = await self._read_only_request()
            else:
                await self._wait_only_request()
        if self._registration.unary is not None:
            request = await self.receive()
            await self._answer_once(await self._registration.unary(request, peer))
            return
        assert self._registration.stream is not None
        await self._registration.stream(self)
        if not method.cardinality.server_streaming and self._responses != 1:
            raise InternalError("the handler did not answer")
        if not self._has_sent:
            self._has_sent = True
            self._stream.send_now(list(RESPONSE), is_last=False)

    async def _wait_only_request(self) -> None:
        request_s = self._context.limits.request_s
        try:
            async with asyncio.timeout(request_s):
                self._only_request = await self._read_only_request()
        except TimeoutError:
            raise DeadlineExceededError(
                f"the request did not arrive within {request_s:g} s"
            ) from None

    async def _read_only_request(self) -> Message:
        data = await self._reader.read()
        if data is None:
            raise InvalidArgumentError("the call carries no request message")
        request: Message = parse(self._method.request_type, data)
        if await self._reader.read() is not None:
            raise InvalidArgumentError("the call carries more than one request message")
        return request

    async def _answer_once(self, response: Message) -> None:
        assert isinstance(response, self._method.response_type), "the handler's answer"
        await self.send(response)


def refuse(stream: WireStream, error: MetropolisError, *, after_headers: bool = False) -> None:
    """End a call with an error. What the caller is still sending is not read."""
    headers = status.to_trailers(error)
    stream.send_now(headers if after_headers else [*RESPONSE, *headers], is_last=True)
    stream.reset_now(ErrorCodes.NO_ERROR)


def _deadline_passed(path: str) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"{path} took longer than the caller's deadline",
        remedy="Retry with a longer timeout.",
    )
