# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 connections and streams: grpclib's, with what we had to change, and why.

This is the one file that knows grpclib's internals; the version is asserted below.

* grpclib wakes a waiting call by cancelling its task and never takes the cancellation back, which
  breaks `asyncio.timeout` and task groups around it. Our streams carry a `failure` and wake their
  waiters instead.
* Its buffer fails an assertion on truncated messages and keeps an object per received frame, so
  that one-byte frames fill the memory. `Inbox` keeps bytes.
* Unknown frames raise out of the protocol; ours ignores them, as HTTP/2 demands.
* Its keep-alive reads the real clock, and closes politely: towards a host that is gone that takes
  30 s more. Ours runs on loop time and aborts.
* It writes each frame by itself. Ours writes once per turn of the loop: one TLS record for the
  answers of all calls that became ready together.
* It counts neither resets nor control frames. Ours counts no ping that follows an answer of ours:
  grpc-go measures bandwidth with one for every burst of data.
* h2 keeps the whole body of a frame, 16 MiB at most, before it judges the size, and 1 MiB of
  headers, which take most of a second to decode. Ours judges both as soon as they are too large.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpclib
from grpclib import protocol
from grpclib.config import Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    StreamReset,
    UnknownFrameReceived,
)
from h2.exceptions import H2Error
from typing_extensions import override

from metropolis.rpc.grpc.h2_settings import (
    ANSWER_HEADER_BYTES_MAX,
    h2_configuration,
    h2_settings,
)
from metropolis.rpc.grpc.inbox import Inbox, StreamFailure
from metropolis.rpc.grpc.light import LightEvent, lighten
from metropolis.rpc.limits import Limits, RateWindow
from metropolis.rpc.tls import is_refusal

assert grpclib.__version__ == "0.4.9", "review this file for the new version of grpclib"

log: Final = logging.getLogger("metropolis.rpc")

Headers = list[tuple[str, str]]

if TYPE_CHECKING:  # our methods are narrower; what we use of grpclib's is declared below

    class _StreamBase: ...

    class _ConnectionBase: ...

    class _ProcessorBase: ...

    class _ProtocolBase(asyncio.Protocol): ...
else:
    _StreamBase = protocol.Stream
    _ConnectionBase = protocol.Connection
    _ProcessorBase = protocol.EventsProcessor
    _ProtocolBase = protocol.H2Protocol

_CONFIGURATION: Final = Configuration(_keepalive_time=None).__for_server__()  # its keep-alive: off
_FEED_BYTES: Final = 1 << 14  # given to h2 at once, so that a flood is noticed in the middle
_TURN_BYTES_MAX: Final = 64 << 10  # that one turn of the loop may prepare to send
# The buffers in which OpenSSL and the event loop pass on one write keep the size of the largest for
# as long as the connection lives, and there may be thousands: what answers are made of is written
# in slices. What is larger is rare, and would only be slowed down.
_SLICE_BYTES: Final = 4 << 10
_SLICED_BYTES_MAX: Final = 256 << 10
_GOODBYE_S: Final = 0.3  # for a GOAWAY to arrive before the connection is cut
_HEADER_FRAMES_MAX: Final = 4  # of 16 KiB each; Huffman codes are at most four times their text
_CONTROL_EVENTS: Final = frozenset(
    (PingReceived, RemoteSettingsChanged, PriorityUpdated, UnknownFrameReceived)
)


class Handler(Protocol):
    """Whoever takes the streams that a peer opens."""

    def accept(
        self, stream: "WireStream", headers: Headers, release_stream: Callable[[], None]
    ) -> None:
        """Take a new stream. `release_stream` must be called when done with it."""
        ...

    def cancel(self, stream: "WireStream") -> None:
        """The stream failed."""
        ...

    def close(self) -> None:
        """The connection is closed; all its streams have failed."""
        ...


class WireStream(_StreamBase):
    """One HTTP/2 stream. Every waiting method raises `StreamFailure` once the stream failed."""

    connection: "WireConnection"
    buffer: Inbox
    failure: StreamFailure | None = None
    if TYPE_CHECKING:
        id: int
        headers: Headers | None
        headers_received: asyncio.Event
        trailers: Headers | None
        trailers_received: asyncio.Event
        window_updated: asyncio.Event
        closable: bool
        _h2_connection: H2Connection

    def init_stream(self, stream_id: int, connection: "WireConnection") -> None:
        self.id = stream_id
        self.buffer = Inbox(lambda count: connection.ack(stream_id, count))

    async def recv_headers(self) -> Headers:
        await self.headers_received.wait()
        if self.headers is None:
            raise self.failure or StreamFailure("the stream ended without headers")
        return self.headers

    async def recv_trailers(self) -> Headers:
        """Return the trailers, which are empty if the stream ended without."""
        await self.trailers_received.wait()
        if self.trailers is None and self.failure is not None:
            raise self.failure
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
                raise self.failure
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


class WireConnection(_ConnectionBase):
    """State of one HTTP/2 connection."""

    has_answered = False  # since the peer's last ping
    _is_flush_due = False
    _waiting_bytes = 0  # of messages, not yet given to the socket
    if TYPE_CHECKING:
        write_ready: asyncio.Event
        stream_close_waiter: asyncio.Event
        _connection: H2Connection
        _transport: asyncio.Transport

        def feed(self, data: bytes) -> list[Event]: ...

    @property
    def h2(self) -> H2Connection:
        return self._connection

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    def create_stream(self, *, stream_id: int | None = None) -> WireStream:
        make: Any = WireStream  # with grpclib's constructor
        stream: WireStream = make(self, self._connection, self._transport, stream_id=stream_id)
        stream.headers_received = LightEvent()
        stream.trailers_received = LightEvent()
        stream.window_updated = LightEvent()
        return stream

    def ack(self, stream_id: int, size: int) -> None:
        if size and not self._transport.is_closing():
            try:
                self._connection.acknowledge_received_data(size, stream_id)
            except H2Error:  # the connection ended in the same turn
                return
            self.flush_soon()

    @property
    def is_overlong(self) -> bool:
        """Whether the peer began a frame, or headers, larger than we accept."""
        buffer: Any = self._connection.incoming_buffer  # private parts of h2; see above
        length = int.from_bytes(buffer._data[:3], "big") if len(buffer._data) > 2 else 0  # noqa: PLR2004, SLF001
        headers = buffer._headers_buffer  # noqa: SLF001
        return length > self._connection.max_inbound_frame_size or len(headers) > _HEADER_FRAMES_MAX

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop, together with what else becomes ready."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    async def flush_within_bounds(self, added_bytes: int) -> None:
        """Like `flush_soon`, but let the socket, and others, have a say before much is waiting."""
        self._waiting_bytes += added_bytes
        if self._waiting_bytes < _TURN_BYTES_MAX:
            self.flush_soon()
        else:
            self.flush()
            await asyncio.sleep(0)

    def flush(self) -> None:
        self._is_flush_due = False
        self._waiting_bytes = 0
        data = self._connection.data_to_send()
        if not data or self._transport.is_closing():
            return
        if _SLICE_BYTES < len(data) <= _SLICED_BYTES_MAX:
            for start in range(0, len(data), _SLICE_BYTES):
                self._transport.write(data[start : start + _SLICE_BYTES])
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Cut the connection at once. What was written is lost."""
        self._transport.abort()
        self.write_ready.set()


class Dispatcher(_ProcessorBase):
    """Hands events of one connection to its streams."""

    is_closed = False
    if TYPE_CHECKING:
        connection: WireConnection
        handler: Handler
        streams: dict[int, WireStream]
        processors: dict[type[Event], Callable[[Event], None]]

        def register(self, stream: WireStream) -> Callable[[], None]: ...

    def process(self, event: Event) -> None:
        handle = self.processors.get(event.__class__)
        if handle is not None and not self.is_closed:
            handle(event)

    def process_stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            unseen = event.error_code == ErrorCodes.REFUSED_STREAM
            who = "the peer" if event.remote_reset else "a violation of HTTP/2"
            reason = f"{who} reset the stream (HTTP/2 error code {int(event.error_code or 0)})"
            stream.fail(StreamFailure(reason, was_unseen=unseen))
            self.handler.cancel(stream)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        detail = (event.additional_data or b"")[:200].decode("utf-8", "replace")
        reason = detail or f"HTTP/2 error code {int(event.error_code or 0)}"
        for stream_id, stream in list(self.streams.items()):
            unseen = event.last_stream_id is not None and stream_id > event.last_stream_id
            failure = StreamFailure(f"the peer said goodbye: {reason}", was_unseen=unseen)
            stream.fail(failure)
        self.close(f"the peer said goodbye: {reason}")

    def close(self, reason: str = "the connection was closed", *, is_refusal: bool = False) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.connection.close()
        for stream in list(self.streams.values()):
            stream.fail(StreamFailure(reason, is_refusal=is_refusal))
        self.handler.close()


class Wire(_ProtocolBase):
    """One HTTP/2 connection as an asyncio protocol.

    Attributes:
        on_made: Called once when the connection stands (its handshake is over), before any data.
        on_lost: Called once when the connection is gone, with the reason.
        is_made: Whether `on_made` was called.
        is_lost: Whether `on_lost` was called.
        last_received_s: Loop time of the last bytes received.
    """

    connection: WireConnection
    processor: Dispatcher

    def __init__(self, handler: Handler, *, is_client: bool, limits: Limits) -> None:
        self.handler = handler
        self.on_made: Callable[[asyncio.Transport], None] = lambda _transport: None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        self.is_made = False
        self.is_lost = False
        self.last_received_s = 0.0
        self._is_client = is_client
        self._limits = limits
        self._resets = RateWindow(limits.resets, limits.window_s)
        self._control_frames = RateWindow(limits.control_frames, limits.window_s)
        self._keepalive: asyncio.TimerHandle | None = None
        self._lost_reason = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        h2 = H2Connection(config=h2_configuration(is_client=self._is_client))
        h2.local_settings = lighten(h2_settings(self._limits, is_client=self._is_client))
        lighten(h2.remote_settings)
        h2.decoder.max_header_list_size = (
            ANSWER_HEADER_BYTES_MAX if self._is_client else self._limits.header_bytes
        )
        h2.initiate_connection()
        extra = self._limits.connection_window_bytes - h2.inbound_flow_control_window
        if extra > 0:
            h2.increment_flow_control_window(extra)
        make_connection: Any = WireConnection  # with grpclib's constructors
        make_dispatcher: Any = Dispatcher
        self.connection = make_connection(h2, transport, config=_CONFIGURATION)
        self.connection.write_ready = LightEvent()
        self.connection.write_ready.set()
        self.connection.stream_close_waiter = LightEvent()
        self.processor = make_dispatcher(self.handler, self.connection)
        self.last_received_s = self._loop.time()
        self.is_made = True
        self.connection.flush()
        self.on_made(self.connection.transport)

    @override
    def data_received(self, data: bytes) -> None:
        self.last_received_s = self._loop.time()
        for start in range(0, len(data), _FEED_BYTES):
            if self.processor.is_closed:
                return
            self._feed(data if len(data) <= _FEED_BYTES else data[start : start + _FEED_BYTES])
        if self.connection.transport.get_write_buffer_size() > self._limits.unsent_bytes:
            self.cut("the peer does not read its answers")
        self.connection.flush_soon()

    @override
    def pause_writing(self) -> None:
        self.connection.write_ready.clear()

    @override
    def resume_writing(self) -> None:
        self.connection.write_ready.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._lost_reason or (f"the connection broke ({exc})" if exc else "")
        self._lost_reason = reason or "the peer closed the connection"
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self.is_made:
            self.processor.close(self._lost_reason, is_refusal=is_refusal(exc))
        self.is_lost = True
        self.on_lost(self._lost_reason)

    def cut(self, reason: str) -> None:
        """Close the connection hard; its streams fail with `reason`."""
        self._lost_reason = self._lost_reason or reason
        self.processor.close(reason)
        self.connection.close()  # also when it was about to end after a goodbye

    def say_goodbye(self, code: ErrorCodes, reason: str) -> None:
        """Tell the peer why, then close. Its streams fail now.

        What it still sends is read and thrown away for a moment: closing a socket with unread
        data would destroy the goodbye on its way.
        """
        connection = self.connection
        if self.processor.is_closed:
            return
        self._lost_reason = reason
        try:
            connection.h2.close_connection(code, reason.encode()[:200])
        except H2Error:
            self.cut(reason)
            return
        connection.flush()
        self.processor.is_closed = True
        for stream in list(self.processor.streams.values()):
            stream.fail(StreamFailure(reason))
        self.handler.close()
        connection.write_ready.set()
        self._loop.call_later(_GOODBYE_S, connection.transport.abort)

    def keep_alive(self, idle_s: float, timeout_s: float) -> None:
        """Ping after `idle_s` of silence; cut the connection `timeout_s` later if it stays so."""
        now_s = self._loop.time()
        due_s = self.last_received_s + idle_s
        if self.processor.is_closed:
            return
        if now_s < due_s:
            self._keepalive = self._loop.call_at(due_s, self.keep_alive, idle_s, timeout_s)
            return
        self.connection.h2.ping(b"metropol")
        self.connection.flush()
        self._keepalive = self._loop.call_later(
            timeout_s, self._judge_silence, self.last_received_s, idle_s, timeout_s
        )

    def _judge_silence(self, heard_s: float, idle_s: float, timeout_s: float) -> None:
        if self.last_received_s > heard_s:
            self.keep_alive(idle_s, timeout_s)
        else:
            self.cut(f"the peer was silent for {idle_s + timeout_s:g} s")

    def _feed(self, data: bytes) -> None:
        try:
            events = self.connection.feed(data)
        except Exception as error:  # noqa: BLE001 - h2 raises more than its own errors on hostile bytes
            log.debug("a peer violated HTTP/2: %s", error)
            self.connection.flush()
            self.cut("a violation of HTTP/2")
            return
        now_s = self.last_received_s
        for event in events:
            kind = event.__class__
            if kind is StreamReset and self._resets.is_exceeded(now_s):
                self.say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM, "too many streams were reset")
                return
            if kind is PingReceived and self.connection.has_answered:
                self.connection.has_answered = False
            elif _is_control(event) and self._control_frames.is_exceeded(now_s):
                self.say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM, "too many control frames")
                return
            self.processor.process(event)
        if self.connection.is_overlong:
            self.say_goodbye(ErrorCodes.FRAME_SIZE_ERROR, "a frame or its headers are too large")


def _is_control(event: Event) -> bool:
    is_empty = isinstance(event, DataReceived) and not event.data
    return is_empty or event.__class__ in _CONTROL_EVENTS
