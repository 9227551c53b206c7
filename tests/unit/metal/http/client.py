# SPDX-License-Identifier: Apache-2.0
"""An application and a client of it in one process, without a socket."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.access.authentication import Authenticator, BearerJudge
from metropolis.metal.access.hmac import HmacKeys, signature
from metropolis.metal.access.role import Role
from metropolis.metal.access.tokens import TokenJudge
from metropolis.metal.http.application import Application
from metropolis.metal.http.metrics import MetricsApplication
from metropolis.metal.http.operation import Operation
from metropolis.metal.http.table import OPERATIONS
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store.sqlite import MEMORY
from unit.metal.kit import StillClock, opened

KEYS = {Role.VIEW: b"view-key", Role.EDIT: b"edit-key", Role.ADMIN: b"admin-key"}
KINDS = {Role.VIEW: "Metal-View", Role.EDIT: "Metal-Edit", Role.ADMIN: "Metal-Admin"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def message(self) -> str:
        """Of an error, whose shape is checked, too."""
        told = self.json
        assert set(told) == {"statuscode", "message"}, told
        assert told["statuscode"] == self.status
        return str(told["message"])


@dataclass(kw_only=True)
class Client:
    """Sends requests, signed as a role or with headers of its own."""

    application: Application
    site: Site
    clock: StillClock
    role: Role = Role.ADMIN
    salts: list[str] = field(default_factory=lambda: [f"salt-{n:019}" for n in range(9999, 0, -1)])

    def signed(self, method: str, role: Role | None = None, salt: str = "") -> dict[str, str]:
        """Headers of a good signature."""
        chosen = role or self.role
        date = self.clock.wall().strftime("%Y-%m-%dT%H:%M:%SZ")
        salt = salt or self.salts.pop()
        signed = signature(KEYS[chosen], date=date, method=method, salt=salt)
        return {
            "x-date": date,
            "x-data-salt": salt,
            "authorization": f"{KINDS[chosen]} {signed}",
        }

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        role: Role | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Send one request; without headers of its own it is signed."""
        sent = dict(self.signed(method, role) if headers is None else headers)
        encoded = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)
        if encoded:
            sent.setdefault("content-type", "application/json")
            sent.setdefault("content-length", str(len(encoded)))
        return await request(self.application, method, path, headers=sent, body=encoded)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.call("POST", path, body, **more)

    async def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.call("PUT", path, body, **more)

    async def delete(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.call("DELETE", path, body, **more)


async def request(
    application: Application | MetricsApplication,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    chunks: Sequence[bytes] | None = None,
) -> Answer:
    """One request, as an ASGI server would hand it over."""
    target, _, query = path.partition("?")
    parts = list(chunks if chunks is not None else [body])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "raw_path": quote(target, safe="/%").encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.7", 1234),
    }
    await application(scope, receive, send)
    return Answer(
        status=sent[0]["status"],
        headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
        body=b"".join(each.get("body", b"") for each in sent[1:]),
    )


@asynccontextmanager
async def serving(
    operations: Sequence[Operation[Any, Any]] = OPERATIONS,
    *,
    settings: Settings | None = None,
    bearers: Sequence[BearerJudge] = (),
    url: str = MEMORY,
    seed: int = 5,
) -> AsyncIterator[Client]:
    """An application on an empty database in memory, and a client that signs as administrator.

    Replicas of one database need different seeds, as they make ids.
    """
    clock = StillClock()
    async with opened(url, clock) as store:
        site = Site(
            store=store,
            clock=clock,
            entropy=SimEntropy(seed),
            settings=settings or Settings(),
        )
        authenticator = Authenticator(
            clock=clock,
            keys=HmacKeys(keys=KEYS),
            tenant=site.settings.provider_tenant,
            bearers=[
                TokenJudge(store=store, clock=clock, tenant=site.settings.provider_tenant),
                *bearers,
            ],
        )
        application = Application(site, operations, authenticator)
        salts = [f"salt-{seed}-{n:017}" for n in range(9999, 0, -1)]
        yield Client(application=application, site=site, clock=clock, salts=salts)
