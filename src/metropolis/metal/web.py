# SPDX-License-Identifier: Apache-2.0
"""Other people's web servers: whether a URL answers, and small documents from one.

Never used inside a transaction. Redirects are followed, answers are bounded, everything has a time
limit: what a URL points to is somebody else's.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from metropolis.base.errors import InvalidArgumentError, UnavailableError

TIMEOUT_S: Final = 10.0  # for all of a call, redirects included
REDIRECTS_MAX: Final = 5
CHUNK_BYTES: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TCP_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What a server answered."""

    status: int
    body: bytes = b""


class Web(Protocol):
    """A client of web servers."""

    async def head(self, url: str) -> int:
        """Return the status that a server answers to a HEAD request.

        Raises:
            InvalidArgumentError: this is no http or https URL.
            UnavailableError: no server answered in time.
        """
        ...

    async def get(self, url: str, *, bytes_max: int) -> WebAnswer:
        """Return what a server answers to a GET request.

        Raises:
            InvalidArgumentError: this is no http or https URL.
            UnavailableError: no server answered in time, or with more than `bytes_max`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWeb:
    """The real one, by HTTP/1.1; certificates are judged by the system's authorities.

    Attributes:
        ca_file: Judge them by these instead; empty for the system's.
    """

    timeout_s: float = TIMEOUT_S
    ca_file: str = ""

    async def head(self, url: str) -> int:
        return (await self._ask("HEAD", url, bytes_max=0)).status

    async def get(self, url: str, *, bytes_max: int) -> WebAnswer:
        return await self._ask("GET", url, bytes_max=bytes_max)

    async def _ask(self, method: str, url: str, *, bytes_max: int) -> WebAnswer:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._follow(method, url, bytes_max)
        except TimeoutError:
            raise _unavailable(url, f"no answer within {self.timeout_s:g} s") from None
        except (OSError, h11.ProtocolError) as cause:
            raise _unavailable(url, str(cause) or type(cause).__name__) from cause

    async def _follow(self, method: str, url: str, bytes_max: int) -> WebAnswer:
        target = url
        for _ in range(REDIRECTS_MAX + 1):
            answer, location = await self._exchange(method, _parse(target), bytes_max)
            if answer.status not in _REDIRECTS or not location:
                return answer
            was_secure, target = _parse(target).scheme == "https", urljoin(target, location)
            if was_secure and _parse(target).scheme == "http":
                raise _unavailable(url, "it leads from https to http")
        raise _unavailable(url, f"more than {REDIRECTS_MAX} redirects")

    async def _exchange(
        self, method: str, url: SplitResult, bytes_max: int
    ) -> tuple[WebAnswer, str]:
        """Ask one server once; return its answer and where it sends us."""
        host = url.hostname or ""
        tls = ssl.create_default_context(cafile=self.ca_file or None)
        reader, writer = await asyncio.open_connection(
            host, url.port or _TCP_PORTS[url.scheme], ssl=tls if url.scheme == "https" else None
        )
        try:
            connection = h11.Connection(our_role=h11.CLIENT)
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            named = url.netloc.rpartition("@")[2]
            headers = [("host", named), ("user-agent", "metropolis-metal"), ("connection", "close")]
            request = h11.Request(method=method, target=path, headers=headers)
            sent = (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
            writer.write(sent)
            await writer.drain()
            return await _receive(connection, reader, url.geturl(), bytes_max)
        finally:
            writer.transport.abort()


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, url: str, bytes_max: int
) -> tuple[WebAnswer, str]:
    status, location, body = 0, "", bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            location = next(
                (value.decode("latin-1") for name, value in event.headers if name == b"location"),
                "",
            )
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > bytes_max:
                raise _unavailable(url, f"the answer is longer than {bytes_max} bytes")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return WebAnswer(status=status, body=bytes(body)), location


def check_url(url: str) -> None:
    """Judge how a URL is written.

    Raises:
        InvalidArgumentError: it is none that can be asked.
    """
    _parse(url)


def _parse(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        InvalidArgumentError: it is none that can be asked.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _TCP_PORTS and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or any(not " " < character < "\x7f" for character in url):
        raise InvalidArgumentError(
            f"{url[:200]!r} is no http or https URL",
            remedy="Write http:// or https://, a host, and a path of plain characters.",
        )
    return parts


def _unavailable(url: str, why: str) -> UnavailableError:
    return UnavailableError(
        f"{url[:200]} cannot be read: {why}",
        remedy="Check the URL, and that this host can reach its server.",
    )
