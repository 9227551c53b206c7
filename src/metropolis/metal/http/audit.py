# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/audit/find`: what was done, when, by whom."""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from metropolis.metal.audit.trace import ROWS_MAX, WINDOW, Search, Trace, search
from metropolis.metal.http.operation import Call, Nothing, Operation, Role

_STATUS_MAX: Final = 2**31 - 1
_WORDS_MAX: Final = 20


class AuditFindRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What rows to find; without a time those of the last 24 hours.

    Attributes:
        path: Part of the path; `forwarded_for` and `remote_addr` are parts, too.
        body: Words that are all in it; likewise `error`. The other texts must be equal.
        limit: Of the newest rows; the answer begins with the oldest of them.
    """

    component: str | None = None
    rqid: str | None = None
    type: str | None = None
    user: str | None = None
    tenant: str | None = None
    project: str | None = None
    detail: str | None = None
    phase: str | None = None
    path: str | None = None
    forwarded_for: str | None = None
    remote_addr: str | None = None
    body: str | None = None
    error: str | None = None
    status_code: Annotated[int, Meta(ge=0, le=_STATUS_MAX)] | None = None
    limit: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    since: datetime | None = msgspec.field(name="from", default=None)
    until: datetime | None = msgspec.field(name="to", default=None)


class AuditResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    component: str
    rqid: str
    type: str
    timestamp: datetime
    user: str
    tenant: str
    detail: str
    phase: str
    path: str
    forwarded_for: str
    remote_addr: str
    body: str
    status_code: int
    error: str


async def _find(call: Call[AuditFindRequest, Nothing]) -> list[AuditResponse]:
    body = call.body
    now = call.site.clock.wall()
    until = _moment(body.until, now)
    exact = {
        "component": body.component,
        "rqid": body.rqid,
        "type": body.type,
        "email": body.user,
        "tenant": body.tenant,
        "project": body.project,
        "detail": body.detail,
        "phase": body.phase,
        "status_code": body.status_code,
    }
    part = {
        "path": body.path,
        "forwarded_for": body.forwarded_for,
        "remote_addr": body.remote_addr,
    }
    words = {"body": _bounded(body.body), "error": _bounded(body.error)}
    wanted = Search(
        since=_moment(body.since, _before(until)),
        until=until,
        exact={name: value for name, value in exact.items() if value},
        part={name: value for name, value in part.items() if value},
        words={name: value for name, value in words.items() if value},
        projects=call.caller.projects,
        limit=body.limit or ROWS_MAX,
    )
    found = await call.site.store.read(lambda reader: search(reader, wanted))
    return [_response(each) for each in found]


def _moment(given: datetime | None, otherwise: datetime) -> datetime:
    if given is None:
        return otherwise
    if given.tzinfo is None:
        return given.replace(tzinfo=UTC)
    try:
        return given.astimezone(UTC)
    except OverflowError:
        return otherwise


def _before(moment: datetime) -> datetime:
    try:
        return moment - WINDOW
    except OverflowError:
        return moment


def _bounded(text: str | None) -> str:
    return " ".join((text or "").split()[:_WORDS_MAX])


def _response(trace: Trace) -> AuditResponse:
    return AuditResponse(
        component=trace.component,
        rqid=trace.rqid,
        type=trace.type,
        timestamp=trace.timestamp,
        user=trace.email,
        tenant=trace.tenant,
        detail=trace.detail,
        phase=trace.phase,
        path=trace.path,
        forwarded_for=trace.forwarded_for,
        remote_addr=trace.remote_addr,
        body=trace.body,
        status_code=trace.status_code,
        error=trace.error,
    )


OPERATIONS: Final = (
    Operation[AuditFindRequest, Nothing](
        id="findAuditTraces",
        method="POST",
        path="/v1/audit/find",
        role=Role.VIEW,
        summary="find audit traces, oldest first",
        handle=_find,
        body=AuditFindRequest,
        answer=list[AuditResponse],
        audited=False,
        tag="audit",
    ),
)
