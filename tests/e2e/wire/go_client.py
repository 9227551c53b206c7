# SPDX-License-Identifier: Apache-2.0
"""A gRPC client that behaves like upstream's, grpc-go, and shares no code with ours.

Besides its calls it pings: every few hundred milliseconds also without streams (the keep-alive of
upstream's resolver, hurried), and whenever data arrives (grpc-go measures bandwidth that way). A
ping that is not answered ends the connection, as it would there.
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from e2e.wire.go_certificates import Identity, check_node
from e2e.wire.go_tls import TIMEOUT_S, Address, GoTls, RefusedError
from e2e.wire.protobuf_bytes import Fields

PING_EVERY_S: Final = 0.3
PING_TIMEOUT_S: Final = 5.0
_KEEPALIVE: Final = b"\0" * 8
_BANDWIDTH: Final = bytes((2, 4, 16, 16, 9, 14, 7, 7))  # what grpc-go sends, too
_PREFIX: Final = struct.Struct(">BI")

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = range(6)
ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = range(6, 10)
ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = range(10, 15)
UNAUTHENTICATED: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a call ended.

    Attributes:
        messages: What was received until then, not decoded.
        is_trailers_only: The whole answer was one block of headers.
    """

    code: int
    text: str
    messages: Sequence[bytes]
    is_trailers_only: bool

    @property
    def only_message(self) -> Fields:
        assert self.code == OK, f"status {self.code}: {self.text}"
        (message,) = self.messages
        return Fields(message)


@dataclass(eq=False)
class GoStream:
    """One call."""

    client: "GoClient"
    stream_id: int
    headers: dict[str, str] | None = None
    trailers: dict[str, str] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    is_ended: bool = False
    reset_code: int | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _is_trailers_only: bool = False

    def send(self, message: bytes, *, is_last: bool = False) -> None:
        """Send one message in gRPC's frame."""
        self.send_raw(_PREFIX.pack(0, len(message)) + message, is_last=is_last)

    def send_raw(self, data: bytes, *, is_last: bool = False) -> None:
        """Send bytes as the peer's windows permit; stop when the peer ended the call."""
        h2 = self.client.h2
        while True:
            if self.is_ended:
                return
            size = min(self._window(), h2.max_outbound_frame_size, len(data))
            if size or not data:
                chunk, data = data[:size], data[size:]
                h2.send_data(self.stream_id, chunk, end_stream=is_last and not data)
                self.client.flush()
            if not data:
                return
            self.client.pump(
                lambda: self.is_ended or h2.local_flow_control_window(self.stream_id) > 0
            )

    def cancel(self) -> None:
        """Drop the call, as a Go context does when it is cancelled."""
        if not self.is_ended:
            self.client.h2.reset_stream(self.stream_id, 8)
            self.client.flush()
            self.is_ended = True

    def receive(self, timeout_s: float = TIMEOUT_S) -> Fields:
        """Take the next message."""
        self.client.pump(lambda: bool(self.messages) or self.is_ended, timeout_s)
        assert self.messages, f"ended without a message: {self.status()}"
        return Fields(self.messages.pop(0))

    def status(self, timeout_s: float = TIMEOUT_S) -> Status:
        """Wait for the end. Judges the answer as strictly as grpc-go does."""
        self.client.pump(lambda: self.is_ended, timeout_s)
        assert self.reset_code is None, f"the stream was reset: {self.reset_code}"
        headers = self.headers or {}
        assert headers[":status"] == "200"
        assert headers["content-type"].startswith("application/grpc")
        trailers = headers if self._is_trailers_only else self.trailers
        return Status(
            code=int(trailers["grpc-status"]),
            text=unquote(trailers.get("grpc-message", "")),
            messages=tuple(self.messages),
            is_trailers_only=self._is_trailers_only,
        )

    def take(self, event: events.Event) -> None:
        match event:
            case events.ResponseReceived(headers=headers):
                self.headers = _named(headers)
                self._is_trailers_only = event.stream_ended is not None
            case events.DataReceived(data=data):
                self._buffer += data or b""
                self._split()
            case events.TrailersReceived(headers=headers):
                self.trailers = _named(headers)
            case events.StreamEnded():
                assert not self._buffer, "the answer ended in the middle of a message"
                self.is_ended = True
            case events.StreamReset(error_code=code):
                if not self.is_ended:
                    self.reset_code = int(code or 0)
                self.is_ended = True
            case _:
                pass

    def _window(self) -> int:
        return self.client.h2.local_flow_control_window(self.stream_id)

    def _split(self) -> None:
        while len(self._buffer) >= _PREFIX.size:
            flag, length = _PREFIX.unpack_from(self._buffer)
            assert flag == 0, "nobody asked for compression"
            assert length <= 4 << 20, "grpc-go refuses messages over 4 MiB"
            if len(self._buffer) < _PREFIX.size + length:
                return
            self.messages.append(bytes(self._buffer[_PREFIX.size : _PREFIX.size + length]))
            del self._buffer[: _PREFIX.size + length]


class GoClient:
    """One connection with any number of calls. Everything happens while somebody waits."""

    def __init__(self, address: Address, identity: Identity | None, *, pings: bool = True) -> None:
        """Connect.

        Raises:
            RefusedError: the handshake failed, or is not what grpc-go accepts.
        """
        self.tls = GoTls(address, identity)
        self.authority = f"{address.host}:{address.tcp_port}"
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams: dict[int, GoStream] = {}
        self.acknowledged = 0
        self.goodbye: str | None = None
        self._pings = pings
        self._unanswered: dict[bytes, float] = {}
        self._ping_due_s = time.monotonic() + PING_EVERY_S
        try:
            self._begin()
        except BaseException:
            self.tls.close()
            raise

    @property
    def server_certificate(self) -> x509.Certificate:
        return self.tls.server_certificates[0]

    def expect_node(self, ca: x509.Certificate) -> str:
        """Judge the server as WantRemoteCluster does; return its id."""
        return check_node(self.server_certificate, ca)

    def open(self, path: str, **changed: str | None) -> GoStream:
        """Begin a call with grpc-go's headers.

        Args:
            changed: Headers to replace, underscores for dashes; None leaves one out.
        """
        headers = {
            ":method": "POST",
            ":scheme": "https",
            ":path": path,
            ":authority": self.authority,
            "content-type": "application/grpc",
            "user-agent": "grpc-go/1.70.0",
            "te": "trailers",
        }
        for name, value in changed.items():
            header = name.replace("_", "-")
            headers.pop(header, None)
            if value is not None:
                headers[header] = value
        stream_id = self.h2.get_next_available_stream_id()
        stream = self.streams[stream_id] = GoStream(self, stream_id)
        self.h2.send_headers(stream_id, list(headers.items()))
        self.flush()
        return stream

    def call(self, path: str, request: bytes = b"") -> Status:
        """Make a call with one request, and read whatever comes until its end."""
        stream = self.open(path)
        stream.send(request, is_last=True)
        return stream.status()

    def begin(self, path: str, request: bytes = b"") -> GoStream:
        """Begin a call with one request whose answer has no end."""
        stream = self.open(path)
        stream.send(request, is_last=True)
        return stream

    def idle(self, seconds: float) -> None:
        """Do nothing but ping."""
        until_s = time.monotonic() + seconds
        self.pump(lambda: time.monotonic() >= until_s, seconds + TIMEOUT_S)

    def pump(self, until: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        """Exchange frames until a condition holds.

        Raises:
            RefusedError: the server hung up, said goodbye, or answers pings no more.
        """
        deadline_s = time.monotonic() + timeout_s
        while not until():
            now_s = time.monotonic()
            assert now_s < deadline_s, f"nothing happened within {timeout_s} s"
            data = self.tls.receive(min(0.05, deadline_s - now_s))
            if data is None:
                self._keep_alive(now_s)
                continue
            if not data:
                raise RefusedError(f"the server hung up: {self.goodbye}")
            for event in self.h2.receive_data(data):
                self._take(event)
            self.flush()
            if self.goodbye is not None and not until():
                raise RefusedError(self.goodbye)

    def flush(self) -> None:
        self.tls.send(self.h2.data_to_send())

    def close(self) -> None:
        self.tls.close()

    def _begin(self) -> None:
        if self.tls.alpn != b"h2":
            raise RefusedError("missing selected ALPN property")
        assert self.tls.ca_names == [], "Go would withhold an ephemeral certificate"
        assert len(self.tls.server_certificates) == 1, "upstream wants exactly one certificate"
        self.h2.local_settings[SettingCodes.ENABLE_PUSH] = 0
        self.h2.initiate_connection()
        self.flush()

    def _take(self, event: events.Event) -> None:
        match event:
            case events.ConnectionTerminated(error_code=code, additional_data=detail):
                self.goodbye = f"GOAWAY {code}: {(detail or b'').decode(errors='replace')}"
                return
            case events.PingAckReceived(ping_data=data):
                self.acknowledged += 1
                self._unanswered.pop(bytes(data), None)
            case events.DataReceived(flow_controlled_length=length, stream_id=stream_id):
                self.h2.acknowledge_received_data(length or 0, stream_id or 0)
                if self._pings:
                    self._ping(_BANDWIDTH)
            case _:
                pass
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if stream is not None:
            stream.take(event)

    def _keep_alive(self, now_s: float) -> None:
        oldest_s = min(self._unanswered.values(), default=now_s)
        if now_s - oldest_s > PING_TIMEOUT_S:
            raise RefusedError("a ping was not answered")
        if self._pings and now_s >= self._ping_due_s:
            self._ping_due_s = now_s + PING_EVERY_S
            self._ping(_KEEPALIVE)

    def _ping(self, payload: bytes) -> None:
        if payload not in self._unanswered:  # one of a kind at a time
            self._unanswered[payload] = time.monotonic()
            self.h2.ping(payload)
            self.flush()


@contextmanager
def dialled(
    address: Address, identity: Identity | None, *, pings: bool = True
) -> Iterator[GoClient]:
    """Connect while the block runs."""
    client = GoClient(address, identity, pings=pings)
    try:
        yield client
    finally:
        client.close()


def _named(headers: object) -> dict[str, str]:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}
