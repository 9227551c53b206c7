# SPDX-License-Identifier: Apache-2.0
"""The hypervisor's end of `metropolis.node.boot.parameters_port`."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.lab.qemu.arguments import PARAMETERS_PORT
from metropolis.node.boot.parameters_port import LENGTH_BYTES, REFUSED, TAKEN, WAITING

ANSWER_S: Final = 10.0  # until a sender believes that it was not understood
LOOK_AGAIN_S: Final = 0.25
_LINE_BYTES_MAX: Final = 64 << 10


async def hand_over(machine: Path, parameters: bytes) -> None:
    """Give a machine its parameters as soon as it waits for them, and return when it has them.

    A machine that was told before never asks again: this waits for ever. It may be off, or be
    switched off and on again.

    Args:
        machine: Its directory.

    Raises:
        InvalidArgumentError: it cannot use them.
    """
    while True:
        # It is off, or lost its power; or what we said was mixed with what others had said.
        with contextlib.suppress(OSError, ValueError, TimeoutError, EOFError):
            await _converse(machine, parameters)
            return
        await asyncio.sleep(LOOK_AGAIN_S)


async def _converse(machine: Path, parameters: bytes) -> None:
    directory = os.open(machine, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # the path itself may be longer than a socket's name can be
        reader, writer = await asyncio.open_unix_connection(
            f"/proc/self/fd/{directory}/{PARAMETERS_PORT}", limit=_LINE_BYTES_MAX
        )
    finally:
        os.close(directory)
    try:
        while not (await _line(reader)).endswith(WAITING):  # firmware may have talked here, too
            pass
        writer.write(len(parameters).to_bytes(LENGTH_BYTES, "little") + parameters)
        async with asyncio.timeout(ANSWER_S):
            await writer.drain()
            while (line := await _line(reader)) != TAKEN:
                if line.startswith(REFUSED):
                    reason = line.removeprefix(REFUSED).decode(errors="replace").strip()
                    raise InvalidArgumentError(
                        f"the machine refuses its parameters: {reason}",
                        remedy="Run the command again.",
                    )
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line:
        raise EOFError
    return line
