# SPDX-License-Identifier: Apache-2.0
"""What machines and the agents of partitions reach over gRPC, on one port."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from metropolis.metal.boot.service import boot_services
from metropolis.metal.messages.delivery import message_services
from metropolis.metal.site import Site
from metropolis.metal.waiters import Waiters
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.mutual import MutualTls, serve_mutual
from metropolis.rpc.limits import Limits
from metropolis.rpc.transport import Endpoint

TCP_PORT: Final = 50051  # where machines look for it
# All machines of a site show the same certificate, so one identity is thousands of them; each
# holds one connection and one stream. A machine whose power is cut still waits for as long as its
# connection seems to be there.
LIMITS: Final = Limits(
    message_bytes=2 << 20,
    connections_per_identity=20_000,
    streams_per_connection=64,
    streams_per_identity=40_000,
    unsent_bytes=4 << 20,
    ping_idle_s=10.0,
    ping_timeout_s=5.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootServing:
    """Where and with what machines and agents are served.

    Attributes:
        endpoint: TCP port 0 for any that is free.
    """

    endpoint: Endpoint
    tls: MutualTls


def partition_services(site: Site, waiters: Waiters) -> Services:
    """Return what partitions call."""
    services = boot_services(site, waiters)
    services.include(message_services(site, waiters))
    return services


async def serve(
    serving: BootServing,
    site: Site,
    *,
    stop: asyncio.Event,
    started: Callable[[Endpoint], None] = lambda _endpoint: None,
) -> None:
    """Serve until `stop` is set.

    Args:
        started: Called with the endpoint once it can be reached.

    Raises:
        InvalidArgumentError: the certificate, the key or the authority cannot be used.
        UnavailableError: the endpoint cannot be bound.
    """
    waiters = Waiters(site.store)
    async with asyncio.TaskGroup() as group:
        waking = group.create_task(waiters.run())
        services = partition_services(site, waiters)
        async with serve_mutual(
            serving.endpoint, tls=serving.tls, services=services, limits=LIMITS
        ) as server:
            started(server.endpoint)
            await stop.wait()
        waking.cancel()
