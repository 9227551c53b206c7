# SPDX-License-Identifier: Apache-2.0
"""What a replica serves to partitions over gRPC, on a real socket with real certificates.

async with partition_server(site, authority) as endpoint:
    async with calling(endpoint, authority.issue("machine")) as channel:
        await channel.call(BootService.DHCP, …)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kits.mutual_tls import SERVER_NAME, Authority
from metropolis.metal.boot.server import BootServing, serve
from metropolis.metal.site import Site
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc.mutual import MutualTls, dial_mutual
from metropolis.rpc.transport import Endpoint


@asynccontextmanager
async def partition_server(
    site: Site, authority: Authority, *, tcp_port: int = 0
) -> AsyncIterator[Endpoint]:
    """Serve while the block runs."""
    started: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = BootServing(endpoint=Endpoint("127.0.0.1", tcp_port), tls=authority.issue("server"))
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(serving, site, stop=stop, started=started.set_result))
        try:
            yield await started
        finally:
            stop.set()


@asynccontextmanager
async def calling(endpoint: Endpoint, tls: MutualTls) -> AsyncIterator[Channel]:
    """A channel for as long as the block runs."""
    channel = dial_mutual(endpoint, tls=tls, server_name=SERVER_NAME)
    try:
        yield channel
    finally:
        await channel.close()
