# SPDX-License-Identifier: Apache-2.0
"""A node as the site sees it: one connection at a time, with a heartbeat and a watch of itself.

It says what the product's channel says, byte for byte, and is as patient; but what it says was
made once for all nodes, and of what it receives it looks at the headers of frames only. So 10,000
of them leave the machine to the site.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol, cast

from google.protobuf.message import Message
from typing_extensions import override

from bench.scale_cluster import node_id
from metropolis.api.curator_pb2 import HeartbeatRequest, WatchRequest
from metropolis.api.methods import Method
from metropolis.api.rpc_curator import Curator
from metropolis.node.roles.heartbeat import ANSWER_TIMEOUT_S, RETRY_S
from metropolis.rpc.grpc import headers as grpc_headers
from metropolis.rpc.grpc.framing import frame as frame_message
from metropolis.rpc.grpc.h2_connection import LightConnection
from metropolis.rpc.grpc.transport import KEEPALIVE_IDLE_S, KEEPALIVE_TIMEOUT_S
from metropolis.rpc.limits import Limits
from metropolis.rpc.transport import Endpoint

HEADER_BYTES: Final = 9  # of a frame: length, kind, flags, stream
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK: Final = 1  # of SETTINGS and PING
END_STREAM: Final = 1  # of DATA and HEADERS
SILENCE_S_MAX: Final = KEEPALIVE_IDLE_S + KEEPALIVE_TIMEOUT_S
REFUSALS_MAX: Final = 4  # twice of each call
LIMITS: Final = Limits()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _message(message: Message) -> bytes:
    return frame_message(message, message_bytes_max=LIMITS.message_bytes)


BEAT: Final = _message(HeartbeatRequest())
SETTINGS_ACK: Final = _frame(SETTINGS, ACK, 0, b"")
CANCEL: Final = (8).to_bytes(4, "big")


class Phrases:
    """How nodes open a connection to one endpoint, and calls on it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._h2 = LightConnection(LIMITS, is_client=True)
        self._authority = str(endpoint)
        self._stream = -1
        self.opening = self._h2.data_to_send()
        # What is said first enters tables of the server; later it is found there.
        self._first = {kind: self._headers(kind) for kind in (Curator.HEARTBEAT, Curator.WATCH)}
        self._again = {kind: self._headers(kind) for kind in (Curator.HEARTBEAT, Curator.WATCH)}

    def headers(self, method: Method[Any, Any], stream: int) -> bytes:
        """Return the headers of a call: on streams 1 and 3 of a heartbeat and a watch."""
        found = (self._first if stream <= 3 else self._again)[method]
        return found[:5] + stream.to_bytes(4, "big") + found[HEADER_BYTES:]

    def _headers(self, method: Method[Any, Any]) -> bytes:
        request = grpc_headers.request(
            method.path, scheme="https", authority=self._authority, timeout_s=None, metadata=None
        )
        self._stream += 2
        self._h2.send_headers(self._stream, request)
        return self._h2.data_to_send()


@dataclass(slots=True, kw_only=True)
class Tally:
    """What all nodes of a process have in common."""

    interval_s: float
    spread_s: float  # of calls that nobody who leads answered
    beating: int = 0
    watching: int = 0
    answered: int = 0
    worst_s: float = 0.0
    problems: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, problem: str) -> None:
        """Count a problem."""
        self.problems[problem] = self.problems.get(problem, 0) + 1


class Line(asyncio.Protocol):
    """One connection of a node. `gone` is done when it has ended."""

    def __init__(self, tally: Tally, phrases: Phrases, seed: int, draw: Random) -> None:
        self._tally = tally
        self._phrases = phrases
        self._draw = draw
        self._request = _message(
            WatchRequest(node_in_cluster=WatchRequest.NodeInCluster(node_id=node_id(seed)))
        )
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._next_stream = 1
        self._beats = self._watch = 0  # streams
        self._is_beating = self._is_watching = False
        self._asked_s = self._heard_s = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refusals = 0
        self.was_answered = False
        self.is_made = False
        self.gone: asyncio.Future[None] = self._loop.create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_made = True
        self._heard_s = self._loop.time()
        self._transport.write(self._phrases.opening + self._first_beat() + self._first_look())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self._tally.note("a connection was lost" if exc is None else repr(exc)[:60])
            self.gone.set_result(None)
        self._stop_beating()
        self._stop_watching()
        for timer in self._timers.values():
            timer.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        data = self._rest + data
        at = 0
        while len(data) - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + HEADER_BYTES], "big")
            self._take(data[at + 3], data[at + 4], stream, data[at + HEADER_BYTES : end])
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == DATA and stream == self._beats:
            self._hear()
        elif kind == DATA and stream == self._watch:
            self._tally.watching += not self._is_watching
            self._is_watching = True
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self._call_ended(stream)
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(SETTINGS_ACK)
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, body))
        elif kind == GOAWAY:
            self._tally.note(f"sent away: {body[8:].decode()[:60]}")
            self._transport.abort()

    def _hear(self) -> None:
        """Take the answer of a beat."""
        now_s = self._loop.time()
        tally = self._tally
        self.was_answered = True
        self._refusals = 0
        tally.answered += 1
        tally.worst_s = max(tally.worst_s, now_s - self._asked_s)
        due_s = self._asked_s + tally.interval_s
        if not self._is_beating:
            self._is_beating = True
            tally.beating += 1
            due_s = now_s + self._draw.uniform(0, tally.interval_s)
        self._after("beat", due_s - now_s, self._beat)

    def _beat(self) -> None:
        self._ask()
        self._transport.write(_frame(DATA, 0, self._beats, BEAT))

    def _first_beat(self) -> bytes:
        self._beats = self._new_stream()
        self._ask()
        opening = self._phrases.headers(Curator.HEARTBEAT, self._beats)
        return opening + _frame(DATA, 0, self._beats, BEAT)

    def _ask(self) -> None:
        self._asked_s = self._loop.time()
        self._after("beat", ANSWER_TIMEOUT_S, self._miss)

    def _miss(self) -> None:
        """Give up a heartbeat that was not answered, perhaps with its connection."""
        self._tally.note("no answer to a heartbeat")
        if self._loop.time() - self._heard_s > SILENCE_S_MAX:
            self._transport.abort()
            return
        self._transport.write(_frame(RST_STREAM, 0, self._beats, CANCEL))
        self._call_ended(self._beats)

    def _first_look(self) -> bytes:
        self._watch = self._new_stream()
        opening = self._phrases.headers(Curator.WATCH, self._watch)
        return opening + _frame(DATA, END_STREAM, self._watch, self._request)

    def _call_ended(self, stream: int) -> None:
        """Open another call, a little later; or ask another endpoint who leads."""
        self._refusals += 1
        if self._refusals > REFUSALS_MAX:
            self._tally.note("asked another endpoint")
            self._transport.abort()
            return
        wait_s = RETRY_S + self._draw.uniform(0, self._tally.spread_s)
        if stream == self._beats:
            self._stop_beating()
            self._after("beat", wait_s, lambda: self._transport.write(self._first_beat()))
        elif stream == self._watch:
            self._stop_watching()
            self._after("watch", wait_s, lambda: self._transport.write(self._first_look()))

    def _stop_beating(self) -> None:
        self._tally.beating -= self._is_beating
        self._is_beating = False
        self._beats = 0

    def _stop_watching(self) -> None:
        self._tally.watching -= self._is_watching
        self._is_watching = False
        self._watch = 0

    def _new_stream(self) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        return stream

    def _after(self, what: str, wait_s: float, act: "Act") -> None:
        if what in self._timers:
            self._timers[what].cancel()
        self._timers[what] = self._loop.call_later(max(0.0, wait_s), act)


class Act(Protocol):
    """What a timer does."""

    def __call__(self) -> None: ...
