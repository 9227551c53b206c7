# SPDX-License-Identifier: Apache-2.0
"""The transport of one machine on a simulated network."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import final

from metropolis.pki.credentials import Credentials
from metropolis.rpc.channel import Services
from metropolis.rpc.memory.client import MemoryChannel
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.server import MemoryServer
from metropolis.rpc.transport import Authenticator, Endpoint, Server, ServerVerifier


@final
class MemoryTransport:
    """See `metropolis.rpc.transport.Transport`.

    Args:
        address: Literal IP address of this machine; calls come from it, servers listen on it.
    """

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address

    def dial(
        self, endpoint: Endpoint, *, credentials: Credentials | None, verify: ServerVerifier
    ) -> MemoryChannel:
        return MemoryChannel(
            self._network, self._address, endpoint, credentials=credentials, verify=verify
        )

    def serve(
        self,
        endpoint: Endpoint,
        *,
        credentials: Credentials,
        services: Services,
        authenticator: Authenticator,
    ) -> AbstractAsyncContextManager[Server]:
        server = MemoryServer(
            self._network,
            certificate=credentials.certificate,
            services=services,
            authenticator=authenticator,
        )
        return self._serving(server, endpoint)

    @asynccontextmanager
    async def _serving(
        self, server: MemoryServer, endpoint: Endpoint
    ) -> AsyncGenerator[Server, None]:
        server.bind(self._address, endpoint)
        try:
            yield server
        finally:
            await server.close()
