# SPDX-License-Identifier: Apache-2.0
"""One stream of an HTTP/2 connection: grpclib's, with what `wire` says we had to change."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from grpclib import protocol
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from metropolis.rpc.grpc.h2_connection import Headers
from metropolis.rpc.grpc.inbox import Inbox, StreamFailure
from metropolis.rpc.grpc.light import LightEvent

if TYPE_CHECKING:  # our methods are narrower; what we use of grpclib's is declared below

    class _StreamBase: ...
else:
    _StreamBase = protocol.Stream


class Outlet(Protocol):
    """What a stream asks of its connection."""

    has_answered: bool
    write_ready: LightEvent

    def ack(self, stream_id: int, size: int) -> None: ...
    def flush_soon(self) -> None: ...
    async def flush_within_bounds(self, added_bytes: int) -> None: ...


class WireStream(_StreamBase):
    """One HTTP/2 stream. Every waiting method raises `StreamFailure` once the stream failed."""

    buffer: Inbox
    failure: StreamFailure | None = None
    wrapper = None  # of grpclib's servers
    if TYPE_CHECKING:
        id: int
        closable: bool

    # Not grpclib's constructor: it makes three events that would be replaced at once.
    def __init__(
        self,
        connection: Outlet,
        h2_connection: H2Connection,
        transport: asyncio.Transport,
        stream_id: int,
    ) -> None:
        self.id = stream_id
        self.connection = connection
        self._h2_connection = h2_connection
        self._transport = transport
        self.buffer = Inbox(partial(connection.ack, stream_id))
        self.headers: Headers | None = None
        self.headers_received = LightEvent()
        self.trailers: Headers | None = None
        self.trailers_received = LightEvent()
        self.window_updated = LightEvent()

    async def recv_headers(self) -> Headers:
        await self.headers_received.wait()
        if self.headers is None:
            if self.failure is not None:
                raise self.failure.again()
            raise StreamFailure("the stream ended without headers")
        return self.headers

    async def recv_trailers(self) -> Headers:
        """Return the trailers, which are empty if the stream ended without."""
        await self.trailers_received.wait()
        if self.trailers is None and self.failure is not None:
            raise self.failure.again()
        return self.trailers or []

    def send_now(self, headers: Headers, *, is_last: bool) -> None:
        """Send headers or trailers. Does nothing on a stream that cannot carry them any more."""
        if not self.closable:
            return
        try:
            self._h2_connection.send_headers(self.id, headers, end_stream=is_last)
        except H2Error:  # the peer closed it in the same turn
            return
        self.connection.flush_soon()

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send as the peer's window and the socket permit."""
        h2 = self._h2_connection
        position = 0
        while True:
            if self.failure is not None:
                raise self.failure.again()
            if not self.connection.write_ready.is_set():
                await self.connection.write_ready.wait()
                continue
            try:
                rest = len(data) - position
                window = h2.local_flow_control_window(self.id)
                if rest and window <= 0:
                    self.window_updated.clear()
                    await self.window_updated.wait()
                    continue
                size = min(window, h2.max_outbound_frame_size, rest)
                is_last = size == rest
                chunk = data if size == len(data) else data[position : position + size]
                h2.send_data(self.id, chunk, end_stream=end_stream and is_last)
                self.connection.has_answered = True
            except H2Error as error:
                raise StreamFailure("the peer closed the stream") from error
            position += size
            await self.connection.flush_within_bounds(size)
            if is_last:
                return

    def end_now(self) -> None:
        """Say that nothing more is sent."""
        if self.failure is None and self.closable:
            try:
                self._h2_connection.end_stream(self.id)
            except H2Error:
                return
            self.connection.flush_soon()

    def reset_now(self, code: ErrorCodes) -> None:
        """Drop the stream, if it is still open."""
        if self.closable:
            self._h2_connection.reset_stream(self.id, error_code=code)
            self.connection.flush_soon()

    def fail(self, failure: StreamFailure) -> None:
        if self.failure is None:
            self.failure = failure
            self.buffer.fail(failure)
            self.headers_received.set()
            self.trailers_received.set()
            self.window_updated.set()

    def __ended__(self) -> None:
        self.buffer.eof()
        self.headers_received.set()
        self.trailers_received.set()

    def __terminated__(self, reason: str) -> None:
        self.fail(StreamFailure(reason))
