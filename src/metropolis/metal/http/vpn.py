# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/vpn/authkey`: keys of a VPN that firewalls join; there must be one first."""

from typing import Final

import msgspec

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.http.operation import Call, Nothing, Operation, Role


class VPNRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that somebody wants.

    Attributes:
        pid: Id of the project whose VPN it opens.
        expiration: Nanoseconds; an hour when absent.
    """

    pid: str
    ephemeral: bool
    reason: str
    expiration: int | None = None


class VPNResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Where the VPN is, and the key."""

    address: str
    auth_key: str


async def _authkey(_call: Call[VPNRequest, Nothing]) -> VPNResponse:
    raise FailedPreconditionError(
        "VPN is not configured: the setting headscale-address is missing",
        remedy="Configure a headscale server, then ask again; machines are reached without it.",
    )


OPERATIONS: Final = (
    Operation[VPNRequest, Nothing](
        id="getVPNAuthKey",
        method="POST",
        path="/v1/vpn/authkey",
        role=Role.ADMIN,
        summary="create auth key to connect to project's VPN",
        handle=_authkey,
        body=VPNRequest,
        answer=VPNResponse,
        tag="vpn",
    ),
)
