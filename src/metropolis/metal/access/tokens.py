# SPDX-License-Identifier: Apache-2.0
"""API tokens of our own: what one may do is written down when it is made, and ends by itself.

    mtk.<id>.<secret>      shown once; stored is only SHA-256 of the secret, which is random

Every use reads the database, so a token that is revoked is refused by the next call on every
replica. Nobody can make a token that may do more than they may, see more, or last longer than
what they made it with.
"""

import hmac
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec

from metropolis.base.errors import PermissionDeniedError, UnauthenticatedError
from metropolis.host import Clock
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.role import GROUPS, Role
from metropolis.metal.store import Kind, Reader, Store, Stored, Transaction

PREFIX: Final = "mtk"
ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
ROLES: Final = {"view": Role.VIEW, "edit": Role.EDIT, "admin": Role.ADMIN}


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token as it is stored.

    Attributes:
        digest: SHA-256 of the secret, hexadecimal.
        owner: Email of who made it.
        projects: None when it is not confined.
        operations: None when every operation of the role may be called.
        parent: Id of the token that it was made with, and with which it is revoked.
    """

    digest: str
    parent: str = ""
    owner: str
    owner_name: str = ""
    issuer: str = ""
    subject: str = ""
    description: str = ""
    role: str
    projects: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    expires: datetime


TOKENS: Final = Kind(
    name="token",
    type=Token,
    facets={
        "owner": lambda token: (token.owner,),
        "parent": lambda token: (token.parent,) if token.parent else (),
    },
)


def make_secret(random: bytes) -> tuple[str, str, str]:
    """Return id, text and stored digest of a new token.

    Args:
        random: `ID_BYTES` + `SECRET_BYTES` bytes.
    """
    assert len(random) == ID_BYTES + SECRET_BYTES
    key = random[:ID_BYTES].hex()
    secret = urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode()
    return key, f"{PREFIX}.{key}.{secret}", _digest(secret)


def check_no_elevation(
    caller: Caller,
    *,
    role: Role,
    projects: frozenset[str] | None,
    operations: frozenset[str] | None,
) -> None:
    """Refuse a token that may do more than who asks for it.

    Raises:
        PermissionDeniedError: naming what is too much.
    """
    if role > caller.role:
        raise PermissionDeniedError(
            f"role {role.name.lower()} is more than you have",
            remedy=f"Ask for {caller.role.name.lower()} or less.",
        )
    if caller.projects is not None and (projects is None or not projects <= caller.projects):
        raise PermissionDeniedError(
            "projects are more than you may see", remedy="Name only projects of yours."
        )
    if caller.operations is not None and (
        operations is None or not operations <= caller.operations
    ):
        raise PermissionDeniedError(
            "operations are more than you may call", remedy="Name only operations of your token."
        )


async def revoke(tx: Transaction, token: Stored[Token]) -> None:
    """Delete a token and all that were made with it."""
    for child in await tx.find(TOKENS, {"parent": token.id}):
        await revoke(tx, child)
    await tx.delete(token)


class TokenJudge:
    """Judges bearer tokens that we made."""

    def __init__(self, *, store: Store, clock: Clock, tenant: str) -> None:
        self._store = store
        self._clock = clock
        self._tenant = tenant

    async def judge(self, token: str) -> Caller | None:
        """Return who shows this token, or None when it is not one of ours.

        Raises:
            UnauthenticatedError: it is unknown, revoked or expired.
        """
        kind, _, rest = token.partition(".")
        if kind != PREFIX:
            return None
        key, _, secret = rest.partition(".")

        async def view(reader: Reader) -> Stored[Token] | None:
            return await reader.lookup(TOKENS, key)

        found = await self._store.read(view) if key else None
        known = found.value.digest if found is not None else _digest("")
        if not hmac.compare_digest(known, _digest(secret)) or found is None or not secret:
            raise UnauthenticatedError(
                "this API token is unknown or was revoked", remedy="Make a new one."
            )
        if found.value.expires <= self._clock.wall():
            raise UnauthenticatedError("this API token has expired", remedy="Make a new one.")
        return self._caller(found)

    def _caller(self, found: Stored[Token]) -> Caller:
        token = found.value
        role = ROLES[token.role]
        return Caller(
            email=token.owner,
            name=token.owner_name or token.owner,
            tenant=self._tenant,
            issuer=token.issuer,
            subject=token.subject,
            groups=GROUPS[role],
            role=role,
            projects=None if token.projects is None else frozenset(token.projects),
            operations=None if token.operations is None else frozenset(token.operations),
            token_id=found.id,
        )


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
