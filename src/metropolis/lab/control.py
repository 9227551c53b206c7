# SPDX-License-Identifier: Apache-2.0
"""How commands talk to a keeper: one JSON request and one JSON answer per line.

    {"command": "power", "node": 1, "to": "kill"}
    {"ok": true}
    {"ok": false, "code": "not-found", "error": "there is no node 7", "remedy": "…"}

The socket is a file of the cluster's directory, mode 0600. Its path may be long, so both sides
reach it through the directory.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from metropolis.base.errors import (
    BY_GRPC_STATUS,
    InvalidArgumentError,
    MetropolisError,
    UnavailableError,
)
from metropolis.supervision import Context

LINE_BYTES_MAX: Final = 64 * 1024
CALL_TIMEOUT_S: Final = 60.0  # an orderly shutdown of every machine fits in
IDLE_TIMEOUT_S: Final = 60.0
_BY_CODE: Final = {kind.code: kind for kind in BY_GRPC_STATUS.values()}

Answer = Mapping[str, Any]
Handler = Callable[[Mapping[str, Any]], Awaitable[Answer]]


async def serve_control(
    ctx: Context, *, socket_name: str, handler: Handler, serving: Callable[[], None]
) -> None:
    """Serve, as a runnable.

    Args:
        socket_name: Relative to the working directory, which is the cluster's.
        handler: Answers one request; its operating errors are sent back as such.
        serving: Called when clients can connect.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_name)  # noqa: PTH108  # of a keeper that was killed
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _converse(reader, writer, handler),
            path=socket_name,
            limit=LINE_BYTES_MAX,
        )
    finally:
        os.umask(before)
    async with server:
        ctx.healthy()
        serving()
        await ctx.wait_cancelled()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> None:
    try:
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                line = await reader.readline()
            if not line:
                break
            answer = await _answer(line, handler)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError, TimeoutError):
        pass  # it went away, sent an endless line, or fell asleep
    finally:
        writer.close()


async def _answer(line: bytes, handler: Handler) -> Answer:
    try:
        try:
            request: object = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise InvalidArgumentError(
                "the request is no JSON object on one line",
                remedy="Use the metropolis command of this checkout.",
            )
        return {"ok": True, **await handler(cast("dict[str, Any]", request))}
    except MetropolisError as error:
        return {"ok": False, "code": error.code, "error": str(error), "remedy": error.remedy}


class KeeperClient:
    """A conversation with a running keeper."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, command: str, /, **arguments: object) -> Answer:
        """Make one request.

        Raises:
            MetropolisError: what the keeper answered; `UnavailableError` when it went away.
        """
        self._writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._writer.drain()
                line = await self._reader.readline()
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as cause:
            raise _gone() from cause
        if answer is None:
            raise _gone()
        if not answer["ok"]:
            kind = _BY_CODE.get(answer["code"], MetropolisError)
            raise kind(answer["error"], remedy=answer["remedy"])
        return {name: value for name, value in answer.items() if name != "ok"}


@contextlib.asynccontextmanager
async def connect_keeper(socket_path: Path) -> AsyncGenerator[KeeperClient, None]:
    """Talk to the keeper while the block runs.

    Raises:
        UnavailableError: no keeper listens there.
    """
    try:
        directory = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{socket_path.name}", limit=LINE_BYTES_MAX
            )
        finally:
            os.close(directory)
    except OSError as cause:
        raise UnavailableError(
            "the cluster is not running", remedy="Start it with `metropolis start`."
        ) from cause
    try:
        yield KeeperClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _gone() -> UnavailableError:
    return UnavailableError(
        "the cluster's keeper went away",
        remedy="Read keeper.log in the cluster's directory, then run the command again.",
    )
