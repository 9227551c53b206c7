# SPDX-License-Identifier: Apache-2.0
"""Asks one thing of a Metal API again and again, cheaply: HTTP/1.1, every request signed anew.

    python -m bench._metal_load TCP_PORT CONNECTIONS SECONDS PATH MACHINES [NAME=VALUE…]

For a * in the path stands each machine in turn; NAME=VALUE are headers. Prints one line of JSON:
how many answers came, in how many seconds, with how many bytes and statuses, and how long they
took.
"""

import asyncio
import hmac
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

import uvloop
from typing_extensions import override

from bench._metal_replica import KEY
from bench._metal_site import machine_name

KIND = "Metal-View"
_LENGTH = b"\r\ncontent-length: "
_TAG = b"\r\netag: "


class Signer:
    """Makes requests; the date is rendered once a second."""

    def __init__(self, key: bytes, paths: Sequence[str], headers: Sequence[str]) -> None:
        self._keyed = hmac.new(key, digestmod=sha256)
        self._salts = itertools.count(time.time_ns())
        more = "".join(f"{each.replace('=', ': ', 1)}\r\n" for each in headers)
        self._starts = itertools.cycle(
            [f"GET {each} HTTP/1.1\r\nHost: bench\r\n{more}" for each in paths]
        )
        self._second = 0
        self._date = ""

    def request(self) -> bytes:
        """Return the next request."""
        now_s = int(time.time())
        if now_s != self._second:
            self._second = now_s
            self._date = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        salt = f"{next(self._salts):024x}"
        keyed = self._keyed.copy()
        keyed.update(f"{self._date}GET{salt}".encode())
        return (
            f"{next(self._starts)}X-Date: {self._date}\r\nX-Data-Salt: {salt}\r\n"
            f"Authorization: {KIND} {keyed.hexdigest()}\r\n\r\n"
        ).encode()


class Client(asyncio.Protocol):
    """One connection, which asks again as soon as it was answered."""

    def __init__(self, signer: Signer, until_s: float) -> None:
        self._signer = signer
        self._until_s = until_s
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._left = 0
        self._asked_s = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self.durations_s: list[float] = []
        self.statuses = Counter[str]()
        self.bytes = 0
        self.tag = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._ask()

    @override
    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self.statuses[self._head[9:12].decode()] += 1
            self._left = int(self._header(_LENGTH) or "0") - (len(self._head) - end - 4)
            self.tag = self.tag or self._header(_TAG)
            self._head = b""
        assert self._left >= 0, "more came than was asked for"
        if not self._left:
            self.durations_s.append(time.perf_counter() - self._asked_s)
            self._ask()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server hung up"))

    def _header(self, name: bytes) -> str:
        place = self._head.find(name)
        if place < 0:
            return ""
        start = place + len(name)
        return self._head[start : self._head.find(b"\r", start)].decode()

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked_s = time.perf_counter()
        if self._asked_s >= self._until_s:
            self.done.set_result(None)
            self._transport.close()
            return
        self._transport.write(self._signer.request())


async def load(
    tcp_port: int, signer: Signer, connections: int, seconds: float
) -> dict[str, object]:
    """Ask for so many seconds, and return what came of it."""
    loop = asyncio.get_running_loop()
    began_s = time.perf_counter()
    clients: list[Client] = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(signer, began_s + seconds), "127.0.0.1", tcp_port
        )
        clients.append(client)
    for client in clients:
        await client.done
    took_s = time.perf_counter() - began_s
    durations_s = sorted(each for client in clients for each in client.durations_s)
    statuses = sum((client.statuses for client in clients), Counter[str]())
    return {
        "count": len(durations_s),
        "took_s": took_s,
        "bytes": sum(client.bytes for client in clients),
        "statuses": statuses,
        "tag": clients[0].tag,
        "median_ms": durations_s[len(durations_s) // 2] * 1e3,
        "p99_ms": durations_s[len(durations_s) * 99 // 100] * 1e3,
        "client_cpu_s": time.process_time(),
    }


def main(arguments: Sequence[str]) -> None:
    """Print what was measured."""
    tcp_port, connections, seconds, path, machines, *headers = arguments
    paths = [path.replace("*", machine_name(number)) for number in range(int(machines))]
    signer = Signer(KEY, paths, headers)
    print(json.dumps(uvloop.run(load(int(tcp_port), signer, int(connections), float(seconds)))))


if __name__ == "__main__":
    main(sys.argv[1:])
