# SPDX-License-Identifier: Apache-2.0
"""Node parameters that come late: the hypervisor hands them over while the machine waits.

See `metropolis.node.boot.parameters_port` for what is said. Only a machine that is part of no
cluster and has no parameters listens: nobody measures what comes this way.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from metropolis.base.errors import InvalidArgumentError
from metropolis.node.boot.parameters_port import LENGTH_BYTES, REFUSED, TAKEN, WAITING
from metropolis.node.parameters import PARAMETERS_BYTES_MAX, parse_parameters
from metropolis.node.storage import (
    COPY_SUFFIX,
    ENROLMENT_RECORD,
    FAREWELL,
    PARAMETERS,
    SEALED_CONFIGURATION,
    NodeStorage,
)
from metropolis.supervision import Logger

_CHUNK_BYTES: Final = 64 << 10


class Port(Protocol):
    """The machine's end of the channel. Nothing blocks."""

    def read(self, size: int) -> bytes | None:
        """Return what has arrived; None if that is nothing, b"" if nobody is at the other end."""
        ...

    def write(self, data: bytes) -> None:
        """Send a few bytes to whoever is at the other end."""
        ...


async def lacks_parameters(storage: NodeStorage) -> bool:
    """Tell whether a machine was never told what to be; one that was wiped is not new either."""
    if await storage.directory.exists(PARAMETERS.path):
        return False
    for place in (SEALED_CONFIGURATION, ENROLMENT_RECORD, FAREWELL):
        for path in (place.path, place.path + COPY_SUFFIX):
            if await storage.directory.exists(path):
                return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a machine waits.

    Attributes:
        look_s: Between two looks at the port.
        say_again_s: Between two times of saying that it waits.
        silence_s: Inside a message, until it is given up: its sender went away unnoticed.
    """

    look_s: float = 0.25
    say_again_s: float = 1.0
    silence_s: float = 5.0


PACE: Final = Pace()


async def wait_for_parameters(
    storage: NodeStorage, port: Port, *, log: Logger, pace: Pace = PACE
) -> None:
    """Wait for good parameters, and put them where the enrolment finds them.

    Raises:
        OSError: the port is gone.
        ResourceExhaustedError: the disk is full.
    """
    while True:
        data = await _receive(port, pace)
        try:
            if len(data) > PARAMETERS_BYTES_MAX:
                raise InvalidArgumentError(
                    "node parameters are too large", remedy="Send what `metroctl install` makes."
                )
            parse_parameters(data)
        except InvalidArgumentError as error:
            log.warning("The hypervisor's parameters cannot be used: %s", error)
            port.write(REFUSED + str(error).encode() + b"\n")
            await _drain(port, pace)
            continue
        await storage.write(PARAMETERS, data)
        port.write(TAKEN)
        return


async def _receive(port: Port, pace: Pace) -> bytes:
    """Return one message, or, of one that is too long, so much that this can be seen."""
    now_s = asyncio.get_running_loop().time
    received, said_s, heard_s = b"", -pace.say_again_s, now_s()
    while True:
        arrived = port.read(_CHUNK_BYTES)
        if arrived:
            received, heard_s = received + arrived, now_s()
            if len(received) >= LENGTH_BYTES:
                length = int.from_bytes(received[:LENGTH_BYTES], "little")
                end = LENGTH_BYTES + min(length, PARAMETERS_BYTES_MAX + 1)
                if len(received) >= end:
                    return received[LENGTH_BYTES:end]
                if length > PARAMETERS_BYTES_MAX:
                    return bytes(PARAMETERS_BYTES_MAX + 1)
            continue
        if arrived is not None or (received and now_s() - heard_s >= pace.silence_s):
            received, said_s = b"", -pace.say_again_s  # nobody is there, or not any more
        elif not received and now_s() - said_s >= pace.say_again_s:
            port.write(WAITING)
            said_s = now_s()
        await asyncio.sleep(pace.look_s)


async def _drain(port: Port, pace: Pace) -> None:
    """Forget what else this sender says: where its next message begins, nobody knows."""
    while (arrived := port.read(_CHUNK_BYTES)) != b"":
        if arrived is None:
            await asyncio.sleep(pace.look_s)
