# SPDX-License-Identifier: Apache-2.0
"""A connection: two ends, and a pipe in each direction in which frames keep their order."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, Protocol, final

from metropolis.rpc.memory.frames import Frame, Goodbye

# A client pings after 6 s without a word and waits 3 s; a server after 60 s, and waits 20 s.
CLIENT_NOTICES_SILENCE_S: Final = (3.0, 9.0)
SERVER_NOTICES_SILENCE_S: Final = (20.0, 80.0)
REBOOT_NOTICED_S: Final = (0.0, 6.0)  # the next ping is answered with a reset

SILENCE: Final = "the peer does not answer pings"
RESET: Final = "the peer reset the connection"
CLOSED: Final = "the peer closed the connection"


class Medium(Protocol):
    """What a connection asks of its network. See `MemoryNetwork` for the meanings."""

    rng: Random

    def is_open(self, source: str, destination: str) -> bool: ...

    def delay_s(self, source: str, destination: str) -> float: ...

    def draws_reset(self, source: str, destination: str) -> bool: ...

    def forget(self, connection: "Connection") -> None: ...


def _ignore_frame(_frame: Frame) -> None:
    """Nobody has taken this end yet."""


def _ignore_loss(_reason: str) -> None:
    """As above."""


@final
class End:
    """One side's view of a connection.

    Attributes:
        address: Of this side's machine.
        far_address: How this side sees the other's; a client on the same machine is loopback.
        on_frame: Called with every frame that arrives, in order.
        on_lost: Called once with the reason when the connection ends, but not by `close`.
        is_lost: This side knows that the connection is over.
    """

    def __init__(
        self,
        connection: "Connection",
        *,
        address: str,
        far_address: str,
        notices_silence_s: tuple[float, float],
    ) -> None:
        self.address = address
        self.far_address = far_address
        self.notices_silence_s = notices_silence_s
        self.on_frame: Callable[[Frame], None] = _ignore_frame
        self.on_lost: Callable[[str], None] = _ignore_loss
        self.is_lost = False
        self._connection = connection
        self._dying_of = ""
        self._death: asyncio.TimerHandle | None = None

    def expect_death(self, reason: str, within_s: tuple[float, float], rng: Random) -> None:
        """Let this side find out within a time, for a reason; the same reason changes nothing."""
        if reason == self._dying_of or self.is_lost:
            return
        self.expect_life()
        delay_s = rng.uniform(*within_s)
        self._dying_of = reason
        self._death = asyncio.get_running_loop().call_later(delay_s, self.lose, reason)

    def expect_life(self) -> None:
        """The other side answers again."""
        self._dying_of = ""
        if self._death is not None:
            self._death.cancel()
            self._death = None

    def send(self, frame: Frame) -> None:
        """Hand a frame to the network; a lost connection swallows it."""
        if not self.is_lost:
            self._connection.pipe_from(self).send(frame)

    def close(self) -> None:
        """Close hard. What was sent but has not arrived may be lost, or not."""
        if self.is_lost:
            return
        self._connection.end_one(self)
        self._connection.pipe_from(self).send_last(Goodbye(reason=CLOSED))

    def lose(self, reason: str) -> None:
        """Let this side find out that the connection is over."""
        if self.is_lost:
            return
        self._connection.end_one(self)
        self._connection.pipe_from(self).send_last(Goodbye(reason=RESET))
        self.on_lost(reason)


@final
class _Pipe:
    """One direction."""

    def __init__(self, network: Medium, source: End, destination: End) -> None:
        self._network = network
        self._source = source
        self._destination = destination
        self._frames: deque[Frame] = deque()
        self._last_s = 0.0
        self._held = 0  # frames that are due and find the way closed
        self.is_cut = False  # the sender's machine is gone, and its buffers with it

    def send(self, frame: Frame) -> None:
        """Let a frame arrive later, after all before it."""
        if self.is_cut:
            return
        loop = asyncio.get_running_loop()
        delay_s = self._network.delay_s(self._source.address, self._destination.address)
        self._last_s = max(self._last_s, loop.time() + delay_s)
        self._frames.append(frame)
        loop.call_at(self._last_s, self._arrive)

    def send_last(self, frame: Frame) -> None:
        """Say goodbye; whether what is still under way gets through is a matter of luck."""
        if self._frames and self._network.rng.random() < 1 / 2:
            self._drop()
        self.send(frame)

    def cut(self) -> None:
        """Lose what is under way, and everything after it."""
        self._drop()
        self.is_cut = True

    def release(self) -> None:
        """Let held frames go on, if the way is open."""
        if self._held and self._is_open():
            loop = asyncio.get_running_loop()
            delay_s = self._network.delay_s(self._source.address, self._destination.address)
            self._last_s = max(self._last_s, loop.time() + delay_s)
            for _ in range(self._held):
                loop.call_at(self._last_s, self._arrive)
            self._held = 0

    def _drop(self) -> None:
        self._frames.clear()
        self._held = 0

    def _is_open(self) -> bool:
        return self._network.is_open(self._source.address, self._destination.address)

    def _arrive(self) -> None:
        if not self._frames:
            return  # dropped meanwhile
        if not self._is_open():
            self._held = min(self._held + 1, len(self._frames))
            return
        frame = self._frames.popleft()
        if self._destination.is_lost:
            if not self._source.is_lost and not isinstance(frame, Goodbye):
                self._source.lose(RESET)
            return
        ends_here = self._network.draws_reset(self._source.address, self._destination.address)
        if ends_here and self._network.rng.random() < 1 / 2:
            self._destination.lose(RESET)
            return
        if isinstance(frame, Goodbye):
            self._destination.lose(frame.reason)
        else:
            self._destination.on_frame(frame)
        if ends_here:
            self._destination.lose(RESET)


@final
class Connection:
    """See the module's docstring."""

    def __init__(
        self,
        network: Medium,
        *,
        client_address: str,
        server_address: str,
        client_seen_as: str,
    ) -> None:
        self._network = network
        self.client = End(
            self,
            address=client_address,
            far_address=server_address,
            notices_silence_s=CLIENT_NOTICES_SILENCE_S,
        )
        self.server = End(
            self,
            address=server_address,
            far_address=client_seen_as,
            notices_silence_s=SERVER_NOTICES_SILENCE_S,
        )
        self._to_server = _Pipe(network, self.client, self.server)
        self._to_client = _Pipe(network, self.server, self.client)
        self.review()

    @property
    def addresses(self) -> tuple[str, str]:
        """Of the client and of the server."""
        return self.client.address, self.server.address

    def pipe_from(self, end: End) -> _Pipe:
        """The pipe that `end` writes to."""
        return self._to_server if end is self.client else self._to_client

    def reset(self) -> None:
        """Lose the connection on both sides at once."""
        self.client.lose(RESET)
        self.server.lose(RESET)

    def vanish(self, address: str) -> None:
        """Lose the side of a machine without power; the other side is told nothing."""
        for end in (self.client, self.server):
            if end.address == address:
                self.pipe_from(end).cut()
                end.lose("this machine has no power")

    def end_one(self, end: End) -> None:
        """Note that one side is over."""
        end.is_lost = True
        end.expect_life()
        if self.client.is_lost and self.server.is_lost:
            self._network.forget(self)
        else:
            self.review()

    def review(self) -> None:
        """See whether each end still hears the other, and let it find out if not."""
        one, other = self.addresses
        is_open = self._network.is_open(one, other) and self._network.is_open(other, one)
        for end, far in ((self.client, self.server), (self.server, self.client)):
            if not is_open:
                end.expect_death(SILENCE, end.notices_silence_s, self._network.rng)
            elif far.is_lost and self.pipe_from(far).is_cut:
                end.expect_death(RESET, REBOOT_NOTICED_S, self._network.rng)
            else:
                end.expect_life()
        self._to_server.release()
        self._to_client.release()
