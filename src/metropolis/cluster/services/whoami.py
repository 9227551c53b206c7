# SPDX-License-Identifier: Apache-2.0
"""Users.WhoAmI, CanI, WatchAccess: what callers learn of themselves, and nodes of users."""

import asyncio
from collections.abc import Iterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.methods import Method
from metropolis.api.services import SERVICES
from metropolis.api.users_pb2 import (
    AccessEvent,
    CanIRequest,
    CanIResponse,
    WatchAccessRequest,
    WhoAmIRequest,
    WhoAmIResponse,
)
from metropolis.base.errors import InvalidArgumentError, MetropolisError, NotFoundError
from metropolis.cluster.access import BEAT_S
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import (
    OWNER,
    PERMISSIONS,
    PERMISSIONS_REFERENCE,
    UPSTREAM,
    needed,
    roles_that_hold,
)
from metropolis.cluster.services.accounts import load
from metropolis.cluster.services.callers import calling_node
from metropolis.cluster.state.accounts import Accounts, grants_of
from metropolis.pki.reading import read_certificate
from metropolis.rpc.authentication import NODE_PERMISSIONS
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer, PeerKind


async def who_am_i(leader: Leader, _request: WhoAmIRequest, peer: Peer) -> WhoAmIResponse:
    """Tell the caller who it is to the cluster."""
    found = await load(leader)
    kind = WhoAmIResponse.KIND_USER
    if peer.kind is PeerKind.NODE:
        kind = WhoAmIResponse.KIND_NODE
    elif peer.identity == OWNER:
        kind = WhoAmIResponse.KIND_OWNER
    answer = WhoAmIResponse(kind=kind, name=peer.identity, permissions=sorted(_held(found, peer)))
    record = found.users.get(peer.identity)
    if record is not None and kind == WhoAmIResponse.KIND_USER:
        answer.grants.CopyFrom(grants_of(record.granted))
    end = _end_of(peer)
    if end is not None:
        answer.not_after.CopyFrom(end)
    return answer


async def can_i(leader: Leader, request: CanIRequest, peer: Peer) -> CanIResponse:
    """Tell the caller whether it may do something."""
    match request.WhichOneof("what"):
        case "permission":
            if request.permission not in PERMISSIONS:
                raise InvalidArgumentError(
                    f"there is no permission {request.permission[:64]!r}",
                    remedy=f"{PERMISSIONS_REFERENCE} lists them.",
                )
            wanted: tuple[str, ...] = (request.permission,)
        case "method":
            wanted = needed(find_method(request.method))
        case _:
            raise InvalidArgumentError(
                "the request asks for nothing", remedy="Set either permission or method."
            )
    held = _held(await load(leader), peer)
    missing = [name for name in wanted if name not in held]
    return CanIResponse(
        allowed=not missing, needed=wanted, missing=missing, roles=roles_that_hold(wanted)
    )


async def watch_access(
    leader: Leader, stream: ServerStream[WatchAccessRequest, AccessEvent]
) -> None:
    """Send a node what it has to judge users by, and show now and then that it is heard."""
    calling_node(stream.peer)
    await stream.receive()
    with leader.access.watch() as watcher:
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    await watcher.receive()
            except TimeoutError:
                await stream.send(AccessEvent())
            else:
                await stream.send(leader.access.event)


def find_method(text: str) -> Method[Any, Any]:
    """Return the method that a path, "Service.Method", "Service/Method" or "Method" names.

    Raises:
        NotFoundError: there is none.
        InvalidArgumentError: there are several.
    """
    wanted = text.strip("/").replace("/", ".").casefold()
    found = [method for method in every_method() if _is_named(method, wanted)]
    if not found:
        raise NotFoundError(
            f"there is no method {text[:64]!r}", remedy=f"{PERMISSIONS_REFERENCE} lists them."
        )
    if len(found) > 1:
        names = " or ".join(f"{_short(method)}.{method.name}" for method in found)
        raise InvalidArgumentError(f"{text[:64]!r} is ambiguous", remedy=f"Say {names}.")
    return found[0]


def every_method() -> Iterator[Method[Any, Any]]:
    """Yield every method that has a policy."""
    for service in SERVICES:
        for method in service.ALL:
            if method.needs is not None:
                yield method


def _is_named(method: Method[Any, Any], wanted: str) -> bool:
    full = f"{method.service}.{method.name}".casefold()
    return full == wanted or full.endswith(f".{wanted}")


def _short(method: Method[Any, Any]) -> str:
    return method.service.rpartition(".")[2]


def _held(found: Accounts, peer: Peer) -> frozenset[str]:
    if peer.kind is PeerKind.NODE:
        return frozenset(UPSTREAM[number] for number in NODE_PERMISSIONS)
    if peer.identity == OWNER:
        return frozenset(PERMISSIONS)
    return found.held_by(peer.identity)


def _end_of(peer: Peer) -> Timestamp | None:
    try:
        facts = read_certificate(peer.certificate)
    except MetropolisError:
        return None
    end = Timestamp()
    end.FromDatetime(facts.not_after)
    return end
