# SPDX-License-Identifier: Apache-2.0
"""The two rows of calls over gRPC that change something."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from metropolis.metal.access.caller import Caller
from metropolis.metal.audit.journal import Deed, Journal
from metropolis.metal.site import Site
from metropolis.rpc.peer import Peer

# Of a path, who calls, and the request as JSON: what is done inside is written down.
Record: TypeAlias = Callable[[str, Peer, bytes], AbstractAsyncContextManager[None]]


def recorder(site: Site) -> Record:
    """Return what writes down calls on a site."""
    journal = Journal(site)

    def record(path: str, peer: Peer, body: bytes) -> AbstractAsyncContextManager[None]:
        who = peer.identity or peer.address
        deed = Deed(
            request_id=journal.new_request_id(),
            caller=Caller(email=who, name=who),
            type="grpc",
            detail="unary",
            path=path,
            remote_addr=peer.address,
        )
        return journal.recorded(deed, body=body)

    return record
