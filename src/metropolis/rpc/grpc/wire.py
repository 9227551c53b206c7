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
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import grpclib
from grpclib import protocol
from grpclib.protocol import EventsProcessor
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from typing_extensions import override

from metropolis.rpc.grpc.h2_connection import Headers, LightConnection
from metropolis.rpc.grpc.inbox import StreamFailure
from metropolis.rpc.grpc.light import LightEvent
from metropolis.rpc.grpc.stream import WireStream
from metropolis.rpc.limits import Limits, RateWindow
from metropolis.rpc.tls import is_refusal

assert grpclib.__version__ == "0.4.9", "review this file for the new version of grpclib"

log: Final = logging.getLogger("metropolis.rpc")

if TYPE_CHECKING:  # our methods are narrower; what we use of grpclib's is declared below

    class _ConnectionBase: ...

    class _ProcessorBase: ...

    class _ProtocolBase(asyncio.Protocol): ...
else:
    _ConnectionBase = protocol.Connection
    _ProcessorBase = protocol.EventsProcessor
    _ProtocolBase = protocol.H2Protocol

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


class WireConnection(_ConnectionBase):
    """State of one HTTP/2 connection."""

    has_answered = False  # since the peer's last ping
    _is_flush_due = False
    _waiting_bytes = 0  # of messages, not yet given to the socket
    if TYPE_CHECKING:

        def feed(self, data: bytes) -> list[Event]: ...

    # Not grpclib's constructor: it makes events that would be replaced at once.
    def __init__(self, h2: H2Connection, transport: asyncio.Transport) -> None:
        self._connection = h2
        self._transport = transport
        self.write_ready = LightEvent()
        self.write_ready.set()
        self.stream_close_waiter = LightEvent()

    @property
    def h2(self) -> H2Connection:
        return self._connection

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    def create_stream(self, *, stream_id: int) -> WireStream:
        return WireStream(self, self._connection, self._transport, stream_id)

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

    # Not grpclib's constructor: its table of bound methods is 2 KiB and a cycle, per connection.
    def __init__(self, handler: Handler, connection: WireConnection) -> None:
        self.handler = handler
        self.connection = connection
        self.streams: dict[int, WireStream] = {}

    def register(self, stream: WireStream) -> Callable[[], None]:
        self.streams[stream.id] = stream
        return partial(self._release, stream)

    def _release(self, stream: WireStream) -> None:
        del self.streams[stream.id]
        connection = self.connection
        connection.stream_close_waiter.set()
        connection.ack(stream.id, stream.buffer.unacked_size())

    def process(self, event: Event) -> None:
        handle = _PROCESSORS.get(event.__class__)
        if handle is not None and not self.is_closed:
            handle(self, event)

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


_PROCESSORS: Final[Mapping[type[Event], Callable[[Any, Any], None]]] = {
    RequestReceived: EventsProcessor.process_request_received,
    ResponseReceived: EventsProcessor.process_response_received,
    RemoteSettingsChanged: EventsProcessor.process_remote_settings_changed,
    DataReceived: EventsProcessor.process_data_received,
    WindowUpdated: EventsProcessor.process_window_updated,
    TrailersReceived: EventsProcessor.process_trailers_received,
    StreamEnded: EventsProcessor.process_stream_ended,
    StreamReset: Dispatcher.process_stream_reset,
    ConnectionTerminated: Dispatcher.process_connection_terminated,
}


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
        self.on_made: Callable[[asyncio.Transport], None] = _ignore
        self.on_lost: Callable[[str], None] = _ignore
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
        stream = cast("asyncio.Transport", transport)  # uvloop's share no class with asyncio's
        self._loop = asyncio.get_running_loop()
        h2 = LightConnection(self._limits, is_client=self._is_client)
        self.connection = WireConnection(h2, stream)
        self.processor = Dispatcher(self.handler, self.connection)
        self.last_received_s = self._loop.time()
        self.is_made = True
        self.connection.flush()
        on_made, self.on_made = self.on_made, _ignore
        on_made(stream)

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
            self._keepalive = None
        if self.is_made:
            self.processor.close(self._lost_reason, is_refusal=is_refusal(exc))
        self.is_lost = True
        # Whoever listens usually holds us, too. Cycles would keep all that a connection consists of
        # until the garbage collector looks at everything there is.
        on_lost = self.on_lost
        self.forget_listeners()
        on_lost(self._lost_reason)

    def forget_listeners(self) -> None:
        """Call nobody any more. For a connection whose handshake failed, which is never lost."""
        self.on_made = self.on_lost = _ignore

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


def _ignore(_what: object) -> None:
    """Listen to nothing."""


def _is_control(event: Event) -> bool:
    is_empty = isinstance(event, DataReceived) and not event.data
    return is_empty or event.__class__ in _CONTROL_EVENTS
