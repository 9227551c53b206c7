# SPDX-License-Identifier: Apache-2.0
"""Operations on API tokens: an addition that clients of the interface never notice."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.role import Role
from metropolis.metal.access.tokens import (
    ID_BYTES,
    ROLES,
    SECRET_BYTES,
    TOKENS,
    Token,
    check_no_elevation,
    make_secret,
    revoke,
)
from metropolis.metal.http.operation import Call, Nothing, Operation
from metropolis.metal.masterdata.projects import get_project
from metropolis.metal.store import Reader, Stored, Transaction

LIFETIME_S: Final = 30 * 86_400
LIFETIME_MAX_S: Final = 366 * 86_400
NAMES_MAX: Final = 1000
KEPT_EXPIRED: Final = timedelta(days=7)  # that an expired token is still listed

_Names = Annotated[tuple[str, ...], Meta(min_length=1, max_length=NAMES_MAX)]


class TokenCreateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token that somebody wants.

    Attributes:
        projects: Confine it to these; absent or null: it sees what its owner sees.
        operations: Ids of the only operations that it may call.
        expiration_s: Seconds that it lasts; 30 days when absent.
    """

    description: str | None = None
    role: Literal["view", "edit", "admin"]
    projects: _Names | None = None
    operations: _Names | None = None
    expiration_s: Annotated[int, Meta(ge=60, le=LIFETIME_MAX_S)] | None = None


class TokenResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: str
    description: str
    owner: str
    role: str
    projects: tuple[str, ...] | None
    operations: tuple[str, ...] | None
    created: datetime
    expires: datetime


class TokenCreateResponse(TokenResponse, frozen=True, kw_only=True):
    """A new token.

    Attributes:
        token: What to send after `Bearer`; nobody can show it again.
    """

    token: str


async def _create(call: Call[TokenCreateRequest, Nothing]) -> TokenCreateResponse:
    body, caller, site = call.body, call.caller, call.site
    projects = None if body.projects is None else tuple(sorted(set(body.projects)))
    operations = None if body.operations is None else tuple(sorted(set(body.operations)))
    check_no_elevation(
        caller,
        role=ROLES[body.role],
        projects=None if projects is None else frozenset(projects),
        operations=None if operations is None else frozenset(operations),
    )
    _check_operations(body.operations or (), call.operation_ids)
    key, text, digest = make_secret(site.entropy.token_bytes(ID_BYTES + SECRET_BYTES))
    lifetime = timedelta(seconds=body.expiration_s or LIFETIME_S)

    async def change(tx: Transaction) -> Stored[Token]:
        await _forget_old(tx, caller.email)
        for project in projects or ():
            await _check_project(tx, project)
        expires = tx.now + lifetime
        if caller.token_id:  # a token cannot outlive itself in another
            expires = min(expires, (await tx.get(TOKENS, caller.token_id)).value.expires)
        token = Token(
            digest=digest,
            parent=caller.token_id,
            owner=caller.email,
            owner_name=caller.name,
            issuer=caller.issuer,
            subject=caller.subject,
            description=body.description or "",
            role=body.role,
            projects=projects,
            operations=operations,
            expires=expires,
        )
        return await tx.insert(TOKENS, key, token)

    stored = await site.store.write(change)
    return TokenCreateResponse(token=text, **msgspec.structs.asdict(_response(stored)))


def _check_operations(wanted: Sequence[str], known: Collection[str]) -> None:
    """Refuse names of operations that do not exist."""
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise InvalidArgumentError(
            f"operations names {unknown[0]!r}, which does not exist",
            remedy="The ids are in openapi.json, as operationId.",
        )


async def _forget_old(tx: Transaction, owner: str) -> None:
    """Delete what an owner could not use for long, so that nobody's list only grows."""
    for token in await tx.find(TOKENS, {"owner": owner}):
        if tx.now - token.value.expires > KEPT_EXPIRED:
            await tx.delete(token)


async def _check_project(tx: Transaction, project: str) -> None:
    try:
        await get_project(tx, project)
    except NotFoundError:
        raise InvalidArgumentError(
            f"projects names {project!r}, which does not exist", remedy="List the projects."
        ) from None


async def _list(call: Call[Nothing, Nothing]) -> list[TokenResponse]:
    where = None if _sees_all(call.caller) else {"owner": call.caller.email}

    async def view(reader: Reader) -> list[Stored[Token]]:
        return await reader.find(TOKENS, where)

    found = await call.site.store.read(view)
    return [_response(each) for each in found if _may_see(call.caller, each.value)]


async def _get(call: Call[Nothing, Nothing]) -> TokenResponse:
    key = call.path["id"]

    async def view(reader: Reader) -> Stored[Token]:
        return await reader.get(TOKENS, key)

    found = await call.site.store.read(view)
    _check_sight(call.caller, found)
    return _response(found)


async def _revoke(call: Call[Nothing, Nothing]) -> TokenResponse:
    key = call.path["id"]

    async def change(tx: Transaction) -> TokenResponse:
        found = await tx.get(TOKENS, key)
        _check_sight(call.caller, found)
        await revoke(tx, found)
        return _response(found)

    return await call.site.store.write(change)


def _sees_all(caller: Caller) -> bool:
    return caller.role is Role.ADMIN and caller.projects is None and caller.operations is None


def _may_see(caller: Caller, token: Token) -> bool:
    if _sees_all(caller):
        return True
    if caller.projects is not None and not frozenset(token.projects or ()) <= caller.projects:
        return False
    return token.owner == caller.email and (caller.projects is None or token.projects is not None)


def _check_sight(caller: Caller, found: Stored[Token]) -> None:
    if not _may_see(caller, found.value):
        raise NotFoundError(
            f"there is no token {found.id!r}", remedy="Check the id; list what there is."
        )


def _response(stored: Stored[Token]) -> TokenResponse:
    token = stored.value
    return TokenResponse(
        id=stored.id,
        description=token.description,
        owner=token.owner,
        role=token.role,
        projects=token.projects,
        operations=token.operations,
        created=stored.created,
        expires=token.expires,
    )


OPERATIONS: Final = (
    Operation[TokenCreateRequest, Nothing](
        id="createToken",
        method="PUT",
        path="/v1/token",
        role=Role.VIEW,
        summary="make an API token; its secret is shown once",
        handle=_create,
        body=TokenCreateRequest,
        answer=TokenCreateResponse,
        status=201,
        tag="token",
    ),
    Operation[Nothing, Nothing](
        id="listTokens",
        method="GET",
        path="/v1/token",
        role=Role.VIEW,
        summary="get your API tokens, as an administrator those of all",
        handle=_list,
        answer=list[TokenResponse],
        tag="token",
    ),
    Operation[Nothing, Nothing](
        id="getToken",
        method="GET",
        path="/v1/token/{id}",
        role=Role.VIEW,
        summary="get an API token, without its secret",
        handle=_get,
        answer=TokenResponse,
        tag="token",
    ),
    Operation[Nothing, Nothing](
        id="revokeToken",
        method="DELETE",
        path="/v1/token/{id}",
        role=Role.VIEW,
        summary="revoke an API token and those that were made with it, at once",
        handle=_revoke,
        answer=TokenResponse,
        tag="token",
    ),
)
