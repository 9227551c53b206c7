# SPDX-License-Identifier: Apache-2.0
"""One replica of the control plane, from its store to its sockets.

Every long-running part is a plain loop in one task group: when one fails, all stop, and whoever
runs the program starts it again. No part holds anything that the database does not.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from metropolis.host import Clock, Entropy
from metropolis.metal.access.authentication import Authenticator
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.access.oidc import OidcJudge
from metropolis.metal.access.tokens import TokenJudge
from metropolis.metal.audit.calls import recorder
from metropolis.metal.audit.upkeep import forget
from metropolis.metal.backup.backups import Vault, restore_if_empty
from metropolis.metal.backup.schedule import Safekeeping, run_schedule
from metropolis.metal.boot import server as boot
from metropolis.metal.boot.server import BootServing
from metropolis.metal.http.application import Application
from metropolis.metal.http.metrics import MetricsApplication
from metropolis.metal.http.server import bind, serve_http
from metropolis.metal.http.table import OPERATIONS
from metropolis.metal.ipam import server as ipam
from metropolis.metal.ipam.server import IpamServing
from metropolis.metal.kinds import KINDS
from metropolis.metal.masterdata import server as masterdata
from metropolis.metal.masterdata.server import MasterdataServing
from metropolis.metal.messages.outbox import run_retention
from metropolis.metal.seed import seed
from metropolis.metal.services.liveliness import run_liveliness, run_resurrection
from metropolis.metal.services.orphan_images import run_orphan_images
from metropolis.metal.settings import Settings
from metropolis.metal.simulated.fleet import Fleet, run_fleet
from metropolis.metal.site import Site
from metropolis.metal.store.indexing import index_kinds
from metropolis.metal.store.opening import open_store
from metropolis.rpc.transport import Endpoint

LOG: Final = logging.getLogger("metropolis.metal")
# What every replica does beside answering.
_LOOPS: Final[tuple[Callable[[Site], Coroutine[None, None, None]], ...]] = (
    forget,
    run_liveliness,
    run_resurrection,
    run_orphan_images,
    lambda site: run_retention(site.store),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What one replica serves, and where.

    Attributes:
        database: Path of a SQLite file, `:memory:`, or a `postgresql://` URL.
        tcp_port: 0 for any that is free.
        backup: None: none are made, and an empty database stays empty.
        seed: Fill a database that has no partition with an example.
        metrics: Host and TCP port where Prometheus reads; None: nowhere.
        boot: None: no machine boots, and no partition gets messages.
        machines: Simulated ones of the example's partition, which need `boot`.
        masterdata: None: tenants and projects are served over REST only.
        ipam: None: nobody else uses the address books.
    """

    database: str
    host: str
    tcp_port: int
    settings: Settings
    keys: HmacKeys
    backup: Safekeeping | None = None
    seed: bool = False
    metrics: tuple[str, int] | None = None
    boot: BootServing | None = None
    machines: Fleet | None = None
    masterdata: MasterdataServing | None = None
    ipam: IpamServing | None = None


def make_application(site: Site, keys: HmacKeys) -> Application:
    """Return the REST API of a site."""
    tenant = site.settings.provider_tenant
    authenticator = Authenticator(
        clock=site.clock,
        keys=keys,
        tenant=tenant,
        bearers=[
            TokenJudge(store=site.store, clock=site.clock, tenant=tenant),
            OidcJudge(store=site.store, clock=site.clock, web=site.web, tenant=tenant),
        ],
    )
    return Application(site, OPERATIONS, authenticator)


async def run(
    serving: Serving,
    *,
    clock: Clock,
    entropy: Entropy,
    stop: asyncio.Event,
    started: Callable[[Site, str], None] = lambda _site, _url: None,
) -> None:
    """Serve until `stop` is set.

    Args:
        started: Called with the site and the URL of the REST API once it can be reached.

    Raises:
        UnavailableError: the database or the address cannot be used.
    """
    bound = bind(serving.host, serving.tcp_port)
    counted = bind(*serving.metrics) if serving.metrics is not None else None
    try:
        vault = await _restored(serving, clock, entropy)
        store = await open_store(serving.database, clock=clock)
        try:
            await index_kinds(store, KINDS)
            site = Site(store=store, clock=clock, entropy=entropy, settings=serving.settings)
            if serving.seed:
                await seed(site)
            application = make_application(site, serving.keys)
            async with asyncio.TaskGroup() as group:
                loops = [group.create_task(each(site)) for each in _LOOPS]
                if vault and serving.backup:
                    schedule = run_schedule(vault, store, serving.database, serving.backup.plan)
                    loops.append(group.create_task(schedule))
                loops.extend(group.create_task(each) for each in _grpc(serving, site, stop))
                if counted is not None:
                    metrics = MetricsApplication(application.metrics)
                    group.create_task(serve_http(metrics, counted, stop))
                started(site, url_of(bound, serving.settings.base_path))
                await serve_http(application, bound, stop)
                for loop in loops:
                    loop.cancel()
        finally:
            await store.close()
    finally:
        bound.close()
        if counted is not None:
            counted.close()


def _grpc(serving: Serving, site: Site, stop: asyncio.Event) -> list[Coroutine[None, None, None]]:
    """What else this replica serves."""
    servers: list[Coroutine[None, None, None]] = []
    if serving.boot is not None:
        servers.append(_serve_boot(serving.boot, serving.machines, site, stop))
    if serving.masterdata is not None:
        servers.append(
            masterdata.serve(
                serving.masterdata,
                site.store,
                clock=site.clock,
                entropy=site.entropy,
                stop=stop,
                record=recorder(site),
            )
        )
    if serving.ipam is not None:
        servers.append(ipam.serve(serving.ipam, site.store, entropy=site.entropy, stop=stop))
    return servers


async def _serve_boot(
    serving: BootServing, machines: Fleet | None, site: Site, stop: asyncio.Event
) -> None:
    reached: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()

    async def live(fleet: Fleet) -> None:
        await run_fleet(fleet, site, await reached)

    async with asyncio.TaskGroup() as group:
        living = [] if machines is None else [group.create_task(live(machines))]
        await boot.serve(serving, site, stop=stop, started=reached.set_result)
        for each in living:
            each.cancel()


async def _restored(serving: Serving, clock: Clock, entropy: Entropy) -> Vault | None:
    """Before anything is served: restore the newest backup where there is nothing yet."""
    kept = serving.backup
    if kept is None:
        return None
    vault = Vault(shelf=kept.shelf, secret=kept.secret, kinds=KINDS, clock=clock, entropy=entropy)
    restored = await restore_if_empty(vault, serving.database)
    if restored is not None:
        LOG.warning("the database was empty: restored %s", restored.name)
    return vault


def url_of(bound: socket.socket, base_path: str) -> str:
    """Return where clients reach what is served on this socket."""
    host, tcp_port = bound.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    return f"http://{named}:{tcp_port}{base_path.rstrip('/')}"


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let the first SIGINT or SIGTERM set `stop`, and the next one kill as usual."""
    loop = asyncio.get_running_loop()

    def ask(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
