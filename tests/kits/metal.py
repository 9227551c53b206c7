# SPDX-License-Identifier: Apache-2.0
"""A replica of the Metal control plane on a real socket, in a thread of the test.

with replica(store_url) as metal:
    driver = metal.driver()                      # metal_python, signing as administrator
    metal.call("GET", "/v1/machine")             # plain HTTP
    metal.run(lambda site: site.store.write(…))  # on the server's own loop
"""

import asyncio
import http.client
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from metal_python import ApiClient  # type: ignore[import-untyped]  # has no types
from metal_python.driver import Driver  # type: ignore[import-untyped]  # has no types

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.access.hmac import TYPES, HmacKeys, signature
from metropolis.metal.access.role import Role
from metropolis.metal.main import Serving
from metropolis.metal.main import run as run_replica
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site

ResultT = TypeVar("ResultT")
KEYS = {Role.VIEW: b"view-key", Role.EDIT: b"edit-key", Role.ADMIN: b"admin-key"}
PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(kw_only=True)
class Replica:
    """A running replica."""

    site: Site
    url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Callable[[Site], Awaitable[ResultT]]) -> ResultT:
        """Run something on the replica's loop, on its site."""

        async def whole() -> ResultT:
            return await work(self.site)

        return asyncio.run_coroutine_threadsafe(whole(), self.loop).result(PATIENCE_S)

    def driver(self, role: Role = Role.ADMIN) -> ApiClient:
        """A client of the original's own library."""
        kind = next(name for name, each in TYPES.items() if each is role)
        client: ApiClient = Driver(self.url, None, KEYS[role].decode(), hmac_user=kind).client
        return client

    def bearer(self, token: str) -> ApiClient:
        """The same with a token."""
        client: ApiClient = Driver(self.url, token, None).client
        return client

    def signed(self, method: str, role: Role = Role.ADMIN) -> dict[str, str]:
        """Headers of a good signature."""
        salt = secrets.token_hex(12)
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = next(name for name, each in TYPES.items() if each is role)
        hexadecimal = signature(KEYS[role], date=date, method=method, salt=salt)
        return {"X-Date": date, "X-Data-Salt": salt, "Authorization": f"{kind} {hexadecimal}"}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        role: Role = Role.ADMIN,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Send one request over a connection of its own."""
        encoded = raw if raw is not None else None if body is None else msgspec.json.encode(body)
        sent = dict(self.signed(method, role) if headers is None else headers)
        if encoded is not None:
            sent.setdefault("Content-Type", "application/json")
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(
            place.hostname or "", place.port, timeout=PATIENCE_S
        )
        try:
            connection.request(method, f"{place.path}{path}", body=encoded, headers=sent)
            response = connection.getresponse()
            return HttpAnswer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )
        finally:
            connection.close()


@contextmanager
def replica(database: str = ":memory:", *, settings: Settings | None = None) -> Iterator[Replica]:
    """Serve until the end of the block; what the server raises is raised there."""
    ready: Future[Replica] = Future()
    stopping: Future[Callable[[], object]] = Future()
    serving = Serving(
        database=database,
        host="127.0.0.1",
        tcp_port=0,
        settings=settings or Settings(check_urls=False),
        keys=HmacKeys(keys=KEYS),
    )

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.set_result(lambda: loop.call_soon_threadsafe(stop.set))

        def started(site: Site, url: str) -> None:
            ready.set_result(Replica(site=site, url=url, loop=loop))

        await run_replica(
            serving, clock=LinuxClock(), entropy=LinuxEntropy(), stop=stop, started=started
        )

    ended: Future[None] = Future()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001  # raised by the test's own thread
            ended.set_exception(error)
            if not ready.done():
                ready.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name="metal")
    thread.start()
    try:
        yield ready.result(PATIENCE_S)
    finally:
        stopping.result(PATIENCE_S)()
        thread.join(PATIENCE_S)
        ended.result(PATIENCE_S)
