# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Reboot and UpdateNode: they belong to nodes that boot a system image."""

from typing import NoReturn

from metropolis.api import management_pb2
from metropolis.base.errors import UnimplementedError
from metropolis.rpc.peer import Peer

REASON = "this node runs in namespaces of another computer and boots no system image"


async def reboot(_request: management_pb2.RebootRequest, _peer: Peer) -> NoReturn:
    """Refuse, with the reason."""
    raise UnimplementedError(
        f"cannot reboot: {REASON}", remedy="Restart it with `metropolis stop` and `start`."
    )


async def update_node(_request: management_pb2.UpdateNodeRequest, _peer: Peer) -> NoReturn:
    """Refuse, with the reason."""
    raise UnimplementedError(
        f"cannot update: {REASON}", remedy="Update the checkout it runs from and restart it."
    )
