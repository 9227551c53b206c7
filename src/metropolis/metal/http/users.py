# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/user/me`: who the caller is, as we see them."""

from typing import Final

import msgspec

from metropolis.metal.http.operation import Call, Nothing, Operation, Role


class User(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A user; the names on the wire begin with capitals."""

    email: str = msgspec.field(name="EMail")
    name: str
    tenant: str
    issuer: str
    subject: str
    groups: tuple[str, ...]


async def _me(call: Call[Nothing, Nothing]) -> User:
    caller = call.caller
    return User(
        email=caller.email,
        name=caller.name,
        tenant=caller.tenant,
        issuer=caller.issuer,
        subject=caller.subject,
        groups=caller.groups,
    )


OPERATIONS: Final = (
    Operation[Nothing, Nothing](
        id="getMe",
        method="GET",
        path="/v1/user/me",
        role=Role.VIEW,
        summary="extract the user from the jwt or hmac token",
        handle=_me,
        answer=User,
        tag="user",
    ),
)
