# SPDX-License-Identifier: Apache-2.0
"""CuratorLocal: who leads. Every node answers it, also one that only passes on what it heard."""

import asyncio
from typing import Final

from metropolis.api.curator_pb2 import (
    GetCACertificateRequest,
    GetCACertificateResponse,
    GetCurrentLeaderRequest,
    GetCurrentLeaderResponse,
)
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.office import Office, Presiding, Vacant, View
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer
from metropolis.rpc.status import NotLeaderError

# An election takes about this long. Waiting here tells callers the moment it is decided; longer,
# and they had better ask somebody who knows.
VACANCY_S_MAX: Final = 2.0


class CuratorLocal:
    """Answers for one node."""

    def __init__(self, office: Office, ca_certificate: bytes) -> None:
        self._office = office
        self._ca_certificate = ca_certificate

    async def get_current_leader(
        self, stream: ServerStream[GetCurrentLeaderRequest, GetCurrentLeaderResponse]
    ) -> None:
        """Say who leads, now and whenever that changes.

        Raises:
            NotLeaderError: for some time nobody has known.
        """
        await stream.receive()
        watcher = self._office.view.watch()
        answer = self._answer(await watcher.receive())
        last: GetCurrentLeaderResponse | None = None
        while True:
            if answer is None:
                try:
                    async with asyncio.timeout(VACANCY_S_MAX):
                        while answer is None:
                            answer = self._answer(await watcher.receive())
                except TimeoutError:
                    raise NotLeaderError from None
            if answer != last:
                await stream.send(answer)
                last = answer
            answer = self._answer(await watcher.receive())

    async def get_ca_certificate(
        self, _request: GetCACertificateRequest, _peer: Peer
    ) -> GetCACertificateResponse:
        """Return the cluster's CA."""
        return GetCACertificateResponse(identity_ca_certificate=self._ca_certificate)

    def _answer(self, view: View) -> GetCurrentLeaderResponse | None:
        own_id = self._office.node_id
        if isinstance(view, Vacant):
            return None
        if isinstance(view, Presiding):
            leader_id, host = str(own_id), view.leader.address
        else:
            leader_id, host = view.hint.node_id, view.hint.host
            if not leader_id or not host:
                return None  # callers could not use it
        return GetCurrentLeaderResponse(
            leader_node_id=leader_id,
            leader_host=host,
            leader_port=CURATOR_TCP_PORT,
            this_node_id=own_id,
        )
