# SPDX-License-Identifier: Apache-2.0
"""QEMU's control socket: its buttons, and what happened to the machine.

One JSON object a line, both ways; answers come in order, events in between (QMP).
"""

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from metropolis.base.errors import InternalError, UnavailableError

_CALL_TIMEOUT_S: Final = 10.0
_NO_LIMIT: Final = 1 << 40  # bytes a second
_LOOK_AGAIN_S: Final = 0.05
_LINE_BYTES_MAX: Final = 1 << 20

OnEvent = Callable[[str, Mapping[str, Any]], None]  # name, its data


def _ignore(_name: str, _data: Mapping[str, Any]) -> None:
    pass


class Monitor:
    """One connection. QEMU serves one at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: OnEvent
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._answers: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()

    async def execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401  # JSON
        """Have QEMU do something; return what it says.

        Raises:
            UnavailableError: it went away or does not answer.
            InternalError: it refuses the command.
        """
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        async with self._turn:
            try:
                async with asyncio.timeout(_CALL_TIMEOUT_S):
                    self._writer.write(json.dumps(request).encode() + b"\n")
                    await self._writer.drain()
                    answer = await self._answers.get()
            except OSError as cause:
                raise _gone() from cause
        if answer is None:
            raise _gone()
        if "error" in answer:
            raise InternalError(
                f"QEMU refuses {command}: {answer['error'].get('desc')}",
                remedy="Report this together with the version of QEMU.",
            )
        return answer["return"]

    async def press_power_button(self) -> None:
        """Ask the guest to switch itself off."""
        await self.execute("system_powerdown")

    async def reset(self) -> None:
        """Press the reset button."""
        await self.execute("system_reset")

    async def freeze(self, path: Path) -> None:
        """Stop the machine and write what it is doing to a file, readable by us alone.

        Raises:
            UnavailableError: that failed; the machine is stopped all the same.
        """
        await self.execute("stop")
        await self.execute("migrate-set-parameters", **{"max-bandwidth": _NO_LIMIT})
        quoted = shlex.quote(str(path))
        await self.execute("migrate", uri=f"exec:umask 077; exec cat > {quoted}")
        while True:
            answer = await self.execute("query-migrate")
            match answer.get("status"):
                case "completed":
                    return
                case "failed" | "cancelled":
                    raise UnavailableError(
                        "QEMU cannot write down what the machine is doing: "
                        f"{answer.get('error-desc', 'it does not say why')}",
                        remedy="Look whether the disk of this computer is full.",
                    )
                case _:
                    await asyncio.sleep(_LOOK_AGAIN_S)

    async def thaw(self) -> None:
        """Let a machine go on that was frozen; of every other one this does nothing."""
        while (status := await self._status()) == "inmigrate":  # noqa: ASYNC110  # it is asked
            await asyncio.sleep(_LOOK_AGAIN_S)
        if status == "paused":
            await self.execute("cont")

    async def _status(self) -> str:
        answer = await self.execute("query-status")
        return str(answer["status"])

    async def watch(self) -> None:
        """Read until QEMU goes away."""
        with contextlib.suppress(OSError, ValueError):
            while line := await self._reader.readline():
                said = json.loads(line)
                if "event" in said:
                    self._on_event(said["event"], said.get("data", {}))
                elif "return" in said or "error" in said:
                    await self._answers.put(said)
        self._closed.set()
        await self._answers.put(None)

    async def closed(self) -> None:
        """Return when QEMU has gone away."""
        await self._closed.wait()


@contextlib.asynccontextmanager
async def connect_monitor(path: Path, on_event: OnEvent = _ignore) -> AsyncGenerator[Monitor, None]:
    """Talk to QEMU while the block runs.

    Raises:
        UnavailableError: it does not listen there.
    """
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # the path itself may be longer than a socket's name can be
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{path.name}", limit=_LINE_BYTES_MAX
            )
        finally:
            os.close(directory)
    except OSError as cause:
        raise _gone() from cause
    monitor = Monitor(reader, writer, on_event)
    watching = asyncio.create_task(monitor.watch())  # no group: it would wrap what the block raises
    try:
        await monitor.execute("qmp_capabilities")
        yield monitor
    finally:
        watching.cancel()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _gone() -> UnavailableError:
    return UnavailableError(
        "the virtual machine does not answer", remedy="Look whether it runs: `metropolis status`."
    )
