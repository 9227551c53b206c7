# SPDX-License-Identifier: Apache-2.0
"""The REST API as one ASGI application, made of the table of operations.

    request ─ route ─ who? ─ may they? ─ body ─ journal ─┐
          ┌───────────────────────────────────────────┘
          └ decode ─ handle ─ encode ─ journal ─ answer

Each step refuses with an error that becomes `{"statuscode": …, "message": …}`. What nobody
foresaw is logged with the request id and answered 500, without what is inside.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import msgspec

from metropolis.base.errors import (
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    chain,
    leaves,
)
from metropolis.metal.access.authentication import Authenticator, Identity
from metropolis.metal.access.caller import GUEST, Caller
from metropolis.metal.access.role import Role, groups_of
from metropolis.metal.access.seen import SeenSignatures
from metropolis.metal.audit.journal import Deed, Journal
from metropolis.metal.http import watch
from metropolis.metal.http.confinement import check_callable, check_may_know, confined
from metropolis.metal.http.decoding import (
    BodyDecoder,
    QueryDecoder,
    check_acceptable,
    check_content_type,
)
from metropolis.metal.http.exchange import (
    NOT_MODIFIED,
    DisconnectedError,
    Exchange,
    Receive,
    Response,
    Scope,
    Send,
    drain,
    problem,
)
from metropolis.metal.http.kept import Body, Shelf, matches
from metropolis.metal.http.lists import PARAMETERS, Rows, Window, key_of, next_headers, window_of
from metropolis.metal.http.metrics import Metrics
from metropolis.metal.http.openapi import document, documents
from metropolis.metal.http.operation import Call, Nothing, Operation, Reply, Upload
from metropolis.metal.http.problem import HttpProblem, message_of, status_of
from metropolis.metal.http.project import project_in
from metropolis.metal.http.request_id import request_id_of
from metropolis.metal.http.router import Router
from metropolis.metal.http.upload import received
from metropolis.metal.site import Site
from metropolis.metal.store import Kind

LOG: Final = logging.getLogger("metropolis.metal.http")
_NO_CONTENT: Final = b""
_PREFLIGHT: Final = {
    "access-control-allow-headers": "Content-Type, Accept, Authorization",
    "access-control-allow-methods": "GET, POST, PUT, DELETE",
    "access-control-max-age": "3600",
}
TOO_LONG: Final = 413
EVERYTHING: Final = Window()
_READS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is known of an operation before anybody calls it.

    Attributes:
        key: What orders its list; None when it answers none.
        watched: The kinds whose changes its list can be watched for.
        one: The id of the operation that reads one entity of its list.
    """

    operation: Operation[Any, Any]
    body: BodyDecoder
    query: QueryDecoder
    audited: bool
    key: tuple[str, ...] | None
    watched: tuple[Kind[Any], ...]
    one: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A request whose operation and caller are known."""

    plan: _Plan
    exchange: Exchange
    identity: Identity
    path: Mapping[str, str]
    request_id: str


class Application:
    """Serves a table of operations."""

    def __init__(
        self,
        site: Site,
        operations: Sequence[Operation[Any, Any]],
        authenticator: Authenticator,
    ) -> None:
        self._site = site
        self._authenticator = authenticator
        self._journal = Journal(site)
        self._shelf = Shelf(site.store, bytes_max=site.settings.kept_bytes_max)
        self._seen = SeenSignatures()
        self.metrics = Metrics()
        described = document(
            operations, site.settings.base_path, lambda each: _additional(each, operations)
        )
        operations = (*operations, *documents(described))
        self._router = Router(site.settings.base_path, operations)
        self._plans = {each.id: _plan(each, operations) for each in operations}
        assert len(self._plans) == len(operations), "two operations share an id"
        self._encoder = msgspec.json.Encoder()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let watchers go; everything else is answered."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        assert scope["type"] == "http", "the server was told to offer nothing else"
        exchange = Exchange(scope, receive)
        request_id = request_id_of(exchange, self._site)
        extra = {"x-request-id": request_id}
        origin = exchange.headers.get(b"origin")
        if origin is not None:
            extra["access-control-allow-origin"] = origin.decode("latin-1")
            extra["vary"] = "Origin"
        began_s = self._site.clock.monotonic_s()
        try:
            response = await self._respond(exchange, request_id)
        except DisconnectedError:
            return
        if response.stream is not None:
            self.metrics.watchers += 1
        try:
            await response.send(receive, send, extra, self._closing)
        finally:
            if response.stream is not None:
                self.metrics.watchers -= 1
            else:
                duration_s = self._site.clock.monotonic_s() - began_s
                self.metrics.count(exchange.route, exchange.method, response.status, duration_s)

    async def _respond(self, exchange: Exchange, request_id: str) -> Response:
        try:
            if exchange.method == "OPTIONS":
                return Response(headers=_PREFLIGHT)
            return await self._answer(exchange, request_id)
        except HttpProblem as error:
            if error.status == TOO_LONG:
                await drain(exchange)
            return problem(error.status, str(error), error.headers)
        except MetropolisError as error:
            return _refusal(error, request_id)
        except DisconnectedError:
            raise
        except BaseExceptionGroup as group:
            inner = list(leaves(group))
            if len(inner) == 1 and isinstance(inner[0], MetropolisError):
                return _refusal(inner[0], request_id)
            LOG.exception("request %s met several errors", request_id)
            return _surprise(request_id)
        except Exception:
            LOG.exception("request %s met an error that nobody foresaw", request_id)
            return _surprise(request_id)

    async def _answer(self, exchange: Exchange, request_id: str) -> Response:
        operation, path = self._router.find(exchange.method, exchange.path)
        exchange.route = operation.path
        plan = self._plans[operation.id]
        check_acceptable(exchange)
        identity = await self._identify(exchange, operation)
        turn = _Turn(
            plan=plan, exchange=exchange, identity=identity, path=path, request_id=request_id
        )
        try:
            self._check_access(operation, identity.caller)
        except PermissionDeniedError as error:
            if plan.audited and identity.caller != GUEST:  # we know who tried
                await self._journal.refused(_deed(turn), *_told(error))
            raise
        encoded = b"" if operation.body is Upload else await self._body(exchange, operation)
        if operation.role is Role.NONE:
            return await self._decoded(turn, encoded)
        if exchange.method in _READS:
            self._check_reading(turn)
            if not plan.audited:
                return await self._decoded(turn, encoded)
        return await self._recorded(turn, encoded)

    def _check_reading(self, turn: _Turn) -> None:
        """Refuse to answer a secret to a signature that was seen with another request.

        Raises:
            UnauthenticatedError: it was.
        """
        proof = turn.identity.proof
        if proof is None:
            return
        if not turn.plan.audited:
            longest = self._authenticator.signature_lifetime
            self._seen.add(proof, now=self._site.clock.wall(), lifetime=longest)
        elif proof in self._seen:
            raise UnauthenticatedError(
                "this signature was used before", remedy="Sign every request anew."
            )

    async def _recorded(self, turn: _Turn, encoded: bytes) -> Response:
        """Answer between the two rows of the audit, with a signature that counts once."""
        audited = turn.plan.audited
        deed = _deed(turn)
        project = project_in(encoded)
        await self._journal.begin(
            deed, body=encoded, project=project, proof=turn.identity.proof, audited=audited
        )
        if not audited:
            return await self._decoded(turn, encoded)
        try:
            response = await self._decoded(turn, encoded)
        except DisconnectedError:
            await self._journal.end(deed, body=b"", project=project, status=0, error="went away")
            raise
        except Exception as error:  # answered, and logged, one level up
            status, message = _told(error)
            await self._journal.end(deed, body=b"", project=project, status=status, error=message)
            raise
        await self._journal.end(
            deed,
            body=response.body,
            project=project or project_in(response.body),
            status=response.status,
        )
        return response

    async def _decoded(self, turn: _Turn, encoded: bytes) -> Response:
        if turn.plan.operation.body is Upload:
            bytes_max = self._site.settings.upload_bytes_max
            async with received(turn.exchange, bytes_max) as upload:
                return await self._handle(turn, upload)
        return await self._handle(turn, turn.plan.body.decode(encoded))

    async def _handle(self, turn: _Turn, body: Any) -> Response:  # noqa: ANN401  # of the operation
        plan = turn.plan
        query, additional = plan.query.decode(turn.exchange)
        call: Call[Any, Any] = Call(
            site=self._site,
            caller=turn.identity.caller,
            body=body,
            query=query,
            path=turn.path,
            request_id=turn.request_id,
            operation_ids=self._plans.keys(),
        )
        if additional and any(name == watch.PARAMETER for name, _ in additional):
            return await self._watched(turn, call, dict(additional)[watch.PARAMETER])
        window = window_of(additional) if additional else EVERYTHING
        if plan.operation.depends_on and self._shelf.is_used:
            kept = await self._kept(turn, call)
            headers = {"x-revision": str(kept.revision)}
            if plan.key is not None and not window.is_everything:
                part = kept.taken_apart(plan.key).part(window)
                headers |= next_headers(turn.exchange.path, additional, part.next)
                return Response(status=plan.operation.status, headers=headers, body=part.body)
            headers["etag"] = kept.tag
            response = Response(status=plan.operation.status, headers=headers, body=kept.body)
            return _unless_known(turn.exchange, response)
        revision = await self._shelf.revision() if plan.watched else None
        response = await self._fresh(plan, call)
        headers = dict(response.headers)
        if revision is not None:
            headers["x-revision"] = str(revision)
        if plan.key is not None and not window.is_everything:
            part = Rows(response.body, plan.key).part(window)
            headers |= next_headers(turn.exchange.path, additional, part.next)
            response = replace(response, body=part.body)
        return replace(response, headers=headers)

    async def _fresh(self, plan: _Plan, call: Call[Any, Any]) -> Response:
        operation = plan.operation
        try:
            answer = confined(call.caller, operation, await operation.handle(call))
        except NotFoundError:
            check_may_know(call.caller)
            raise
        return self._encoded(operation, answer)

    async def _kept(self, turn: _Turn, call: Call[Any, Any]) -> Body:
        """Return bytes that are kept while nothing changes."""
        operation = turn.plan.operation

        async def make() -> bytes:
            return (await self._fresh(turn.plan, call)).body

        caller = call.caller
        projects = None if caller.projects is None else sorted(caller.projects)
        asked = (operation.id, [*call.path.items()], call.query, call.body, caller.role, projects)
        # Of one length, however long the question: a caller cannot fill our memory with those.
        key = sha256(self._encoder.encode(asked)).digest()
        named = call.path.get("id", "")
        return await self._shelf.get(
            key,
            operation.depends_on,
            make,
            entities=[(kind, named) for kind in operation.depends_on_id],
        )

    async def _watched(self, turn: _Turn, call: Call[Any, Any], given: str) -> Response:
        """Answer with what changes in a list, for as long as the client reads."""
        one = self._plans[turn.plan.one]
        name = one.operation.path.rpartition("{")[2].rstrip("}")

        async def read(key: str) -> bytes:
            return (await self._fresh(one, replace(call, path={name: key}))).body

        async def still_allowed() -> None:
            if turn.identity.proof is None:  # a signature says nothing about later
                again = await self._identify(turn.exchange, turn.plan.operation)
                self._check_access(turn.plan.operation, again.caller)

        sight: watch.Sight | None = None
        if call.caller.projects is not None and turn.plan.key is not None:
            listed = await self._fresh(turn.plan, call)
            sight = await watch.sight_of(self._site.store, listed.body, turn.plan.key)
        watched = watch.Watch(
            self._site.store,
            kinds=turn.plan.watched,
            after=await watch.start_of(self._site.store, given),
            read=read,
            still_allowed=still_allowed,
            sight=sight,
        )
        return Response(stream=watched.run, content_type=watch.CONTENT_TYPE)

    def _encoded(self, operation: Operation[Any, Any], value: Any) -> Response:  # noqa: ANN401  # of any operation
        status = operation.status
        headers: Mapping[str, str] = {}
        if isinstance(value, Reply):
            status, headers, value = value.status, value.headers, value.value
        if operation.answer is Nothing:
            return Response(status=status, headers=headers, body=_NO_CONTENT)
        encoded = bytes(value) if isinstance(value, msgspec.Raw) else self._encoder.encode(value)
        return Response(status=status, headers=headers, body=encoded)

    async def _identify(self, exchange: Exchange, operation: Operation[Any, Any]) -> Identity:
        if operation.role is Role.NONE:
            return Identity(caller=GUEST)
        return await self._authenticator.identify(exchange.headers, exchange.method)

    def _check_access(self, operation: Operation[Any, Any], caller: Caller) -> None:
        """Refuse whoever may not call this.

        Raises:
            PermissionDeniedError: the tenant, the role or the token does not allow it.
        """
        if operation.role is Role.NONE:
            return
        if caller.tenant.lower() != self._site.settings.provider_tenant.lower():
            raise PermissionDeniedError(
                f"tenant {caller.tenant!r} not allowed",
                remedy="Log in as a user of the provider tenant.",
            )
        if caller.role < operation.role:
            wanted = " ".join(groups_of(operation.role))
            raise PermissionDeniedError(f"you are not member in one of [{wanted}]")
        if caller.operations is not None and operation.id not in caller.operations:
            raise PermissionDeniedError(
                f"your token does not include {operation.id}",
                remedy="Create a token whose operations include it.",
            )
        check_callable(caller, operation)

    async def _body(self, exchange: Exchange, operation: Operation[Any, Any]) -> bytes:
        if exchange.method in _READS and operation.body is Nothing:
            return b""
        body = await exchange.body(self._site.settings.body_bytes_max)
        if operation.body is not Nothing:
            check_content_type(exchange, body)
        return body


def _plan(operation: Operation[Any, Any], operations: Sequence[Operation[Any, Any]]) -> _Plan:
    audited = operation.audited
    one = _one_of(operation, operations)
    return _Plan(
        operation=operation,
        body=BodyDecoder(operation),
        query=QueryDecoder(operation, _additional(operation, operations)),
        audited=operation.method not in _READS if audited is None else audited,
        key=key_of(operation),
        watched=watch.WATCHED.get(operation.id, ()) if one else (),
        one=one,
    )


def _one_of(operation: Operation[Any, Any], operations: Sequence[Operation[Any, Any]]) -> str:
    """Return the operation that reads one entity of a list; empty when there is none."""
    path = f"{operation.path}/{{id}}"
    return next((each.id for each in operations if each.method == "GET" and each.path == path), "")


def _additional(
    operation: Operation[Any, Any], operations: Sequence[Operation[Any, Any]]
) -> frozenset[str]:
    """Return the query parameters that are taken for an operation, not by it."""
    paged = PARAMETERS if key_of(operation) else frozenset[str]()
    is_watched = operation.id in watch.WATCHED and _one_of(operation, operations)
    return paged | {watch.PARAMETER} if is_watched else paged


def _unless_known(exchange: Exchange, response: Response) -> Response:
    """Answer 304 when the client has these very bytes."""
    tag = response.headers.get("etag")
    given = exchange.headers.get(b"if-none-match")
    if tag is None or given is None or not matches(given.decode("latin-1"), tag):
        return response
    return Response(status=NOT_MODIFIED, headers=response.headers)


def _deed(turn: _Turn) -> Deed:
    exchange = turn.exchange
    return Deed(
        request_id=turn.request_id,
        caller=turn.identity.caller,
        detail=exchange.method,
        path=exchange.scope["path"],
        remote_addr=exchange.remote_address,
        forwarded_for=exchange.header(b"x-forwarded-for"),
    )


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, HttpProblem):
        return error.status, str(error)
    if isinstance(error, MetropolisError):
        return status_of(error), message_of(error)
    return 500, "an error that nobody foresaw"


def _refusal(error: MetropolisError, request_id: str) -> Response:
    status = status_of(error)
    if status >= 500:  # noqa: PLR2004  # ours to look at
        LOG.error("request %s failed: %s", request_id, chain(error))
    return problem(status, message_of(error))


def _surprise(request_id: str) -> Response:
    return problem(
        500, f"something went wrong inside; look for request {request_id} in the server's log"
    )


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's questions about start and stop; `main` does the work of both."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
