# SPDX-License-Identifier: Apache-2.0
"""What a server grants to whom, so that no stranger can exhaust it. Every number has its reason."""

from dataclasses import dataclass

from metropolis.rpc.channel import MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one server. *Strangers* are peers without a certificate of the cluster.

    Strangers are counted per address. Members and users are counted per identity, because many of
    them may share an address (a proxy of a lab, a NAT).
    """

    message_bytes: int = MESSAGE_BYTES_MAX
    handshake_s: float = 10.0  # a slow link needs 2 s; a stalled peer holds 70 KiB of ours
    request_s: float = 60.0  # to send the whole single request of a call: 4 MiB at 600 kbit/s
    handshakes_per_address: int = 256  # at the same time; each costs 1 ms of CPU
    handshakes_fresh: int = 128  # begun just now, others wait: 1000 per s if each takes 0.1 s
    handshakes_per_s: float = 400.0  # per address, in the long run: less than half a core
    handshakes_burst: float = 4000.0  # before that counts: 10,000 nodes behind one come in 20 s
    connections: int = 24576  # in all: 10,000 nodes twice, old and new; 80 KiB each
    connections_per_address: int = 256  # strangers
    connections_per_identity: int = 1024
    streams_per_connection: int = 256  # announced to the peer, which then waits
    streams_per_address: int = 256  # strangers: each may hold a 4 MiB request
    streams_per_identity: int = 2048
    resets: int = 500  # calls that a peer began and dropped, per connection and window
    control_frames: int = 2000  # pings, settings, empty frames; per connection and window
    window_s: float = 10.0  # of the two counters above
    unsent_bytes: int = 16 << 20  # replies to a peer that does not read them
    stream_window_bytes: int = 1 << 20  # what a peer may send before anybody reads
    connection_window_bytes: int = 4 << 20
    header_bytes: int = 16 << 10  # of one request, decoded
    ping_idle_s: float = 60.0  # silence after which the server asks whether the peer lives
    ping_timeout_s: float = 20.0


class Tally:
    """How many of a thing each key holds."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def acquire(self, key: str, *, limit: int) -> bool:
        """Count one more for `key`, unless it has `limit` already."""
        held = self._held.get(key, 0)
        if held >= limit:
            return False
        self._held[key] = held + 1
        return True

    def release(self, key: str) -> None:
        """Give back what `acquire` granted."""
        held = self._held[key] - 1
        assert held >= 0, "released more than acquired"
        if held:
            self._held[key] = held
        else:
            del self._held[key]

    def held(self, key: str) -> int:
        return self._held.get(key, 0)


class RateWindow:
    """Counts events; says when more than `limit` fell into one window of `window_s`."""

    __slots__ = ("_count", "_limit", "_started_s", "_window_s")

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._started_s = float("-inf")
        self._count = 0

    def is_exceeded(self, now_s: float) -> bool:
        """Count one event at `now_s` (of any monotonic clock)."""
        if now_s - self._started_s >= self._window_s:
            self._started_s = now_s
            self._count = 0
        self._count += 1
        return self._count > self._limit
