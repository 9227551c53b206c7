# SPDX-License-Identifier: Apache-2.0
"""One request and its answer, as ASGI carries them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.http.problem import HttpProblem, problem_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Stream = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]

NOT_MODIFIED: Final = 304
DRAINED_BYTES_MAX: Final = 256 * 1024 * 1024
DRAIN_S: Final = 10.0
JSON: Final = "application/json"
_QUERY_FIELDS_MAX: Final = 100


class DisconnectedError(Exception):
    """The client went away before its request was complete; nobody is left to be told."""


class Exchange:
    """A request that came in.

    Attributes:
        route: The path of the operation that was found for it.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.route = "none"
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        self.path: str = raw.decode("latin-1")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> str:
        """Return a header, empty when it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def remote_address(self) -> str:
        """Where the connection comes from, as far as we can see."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def query(self) -> list[tuple[str, str]]:
        """Return the query parameters in order.

        Raises:
            InvalidArgumentError: they are not text, or too many.
        """
        encoded: bytes = self.scope["query_string"]
        if not encoded:
            return []
        try:
            pairs = parse_qsl(
                encoded.decode("latin-1"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_QUERY_FIELDS_MAX,
            )
        except UnicodeDecodeError:
            raise InvalidArgumentError("the query is not UTF-8") from None
        except ValueError:
            raise InvalidArgumentError(
                f"the query has more than {_QUERY_FIELDS_MAX} parameters"
            ) from None
        for name, value in pairs:
            if "\0" in value or "\0" in name:
                raise InvalidArgumentError("the query holds a NUL character")
        return pairs

    async def body(self, bytes_max: int) -> bytes:
        """Read the whole body.

        Raises:
            HttpProblem: 413, it is too long.
            DisconnectedError: the client went away.
        """
        check_length(self, bytes_max)
        message = await self.receive()
        _check_connected(message)
        chunk: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(chunk) > bytes_max:
                raise too_long(bytes_max)
            return chunk
        chunks = [chunk]
        length = len(chunk)
        while message.get("more_body", False):
            message = await self.receive()
            _check_connected(message)
            chunk = message.get("body", b"")
            length += len(chunk)
            if length > bytes_max:
                raise too_long(bytes_max)
            chunks.append(chunk)
        return b"".join(chunks)


async def drain(exchange: Exchange) -> None:
    """Read the rest of a request that was refused, within reason: its client then sees why."""
    declared = exchange.headers.get(b"content-length", b"")
    if not declared.isdigit() or int(declared) > DRAINED_BYTES_MAX:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            message = await exchange.receive()
            while message.get("more_body", False):
                message = await exchange.receive()


def too_long(bytes_max: int) -> HttpProblem:
    """Return the refusal of a body, after which the connection is of no use."""
    return HttpProblem(
        413, f"the body is longer than {bytes_max} bytes", headers={"connection": "close"}
    )


def check_length(exchange: Exchange, bytes_max: int) -> None:
    """Refuse a body that announces itself as too long.

    Raises:
        HttpProblem: 413.
    """
    declared = exchange.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > bytes_max:
        raise too_long(bytes_max)


def _check_connected(message: Message) -> None:
    if message["type"] == "http.disconnect":
        raise DisconnectedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer that is complete, or one that goes on.

    Attributes:
        stream: Writes chunks as they come, instead of `body`; cancelled when the client goes away.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: Stream | None = None

    async def send(
        self, receive: Receive, send: Send, extra: Mapping[str, str], closing: asyncio.Event
    ) -> None:
        """Send it, with headers that every answer carries.

        Args:
            closing: Ends a stream, as its client does by going away.
        """
        headers: list[tuple[bytes, bytes]] = []
        if self.body or self.stream is not None:
            headers.append((b"content-type", self.content_type.encode("latin-1")))
        if self.stream is None and self.status != NOT_MODIFIED:
            headers.append((b"content-length", b"%d" % len(self.body)))
        for name, value in (*self.headers.items(), *extra.items()):
            headers.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.stream is not None:
            await _send_stream(self.stream, receive, send, closing)
        await send({"type": "http.response.body", "body": self.body})


async def _send_stream(
    stream: Stream, receive: Receive, send: Send, closing: asyncio.Event
) -> None:
    async def write(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def work() -> None:
        await stream(write)

    async def wait_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(work()),
            group.create_task(wait_disconnect()),
            group.create_task(_wait(closing)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that says what went wrong."""
    return Response(status=status, body=problem_body(status, message), headers=headers or {})
