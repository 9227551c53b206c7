# SPDX-License-Identifier: Apache-2.0
"""One row of the audit: how it is written, searched and forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from metropolis.metal.access.salts import microseconds
from metropolis.metal.store import Reader, Transaction

RETENTION: Final = timedelta(days=14)
WINDOW: Final = timedelta(hours=24)  # that is searched when no time is given
COMPONENT: Final = "metal-api"
ROWS_MAX: Final = 10_000

_COLUMNS: Final = (
    "timestamp_us",
    "id",
    "rqid",
    "type",
    "component",
    "email",
    "tenant",
    "project",
    "detail",
    "phase",
    "path",
    "forwarded_for",
    "remote_addr",
    "status_code",
    "body",
    "error",
)
_SELECT: Final = ", ".join(_COLUMNS)
_PLACES: Final = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_INSERT: Final = f"INSERT INTO audit_trace ({_SELECT}) VALUES ({_PLACES})"  # noqa: S608  # constants
_DELETE: Final = "DELETE FROM audit_trace WHERE timestamp_us < $1"
_EXACT: Final = frozenset(
    {"rqid", "type", "component", "email", "tenant", "project", "detail", "phase", "status_code"}
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A row.

    Attributes:
        rqid: The request's id, shared by the two rows of a call.
        type: `http`, `grpc` or `event`.
        detail: The HTTP method, `unary` or `stream`.
        phase: `request`, `response`, `single`, `error`, `opened` or `closed`.
        status_code: 0 before there is one.
        body: Without secrets.
    """

    timestamp: datetime
    id: str
    rqid: str
    type: str = "http"
    component: str = COMPONENT
    email: str
    tenant: str
    project: str = ""
    detail: str
    phase: str
    path: str
    forwarded_for: str = ""
    remote_addr: str = ""
    status_code: int = 0
    body: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What rows to look for.

    Attributes:
        exact: Column to value.
        part: Column (`path`, `forwarded_for`, `remote_addr`) to a text it must contain.
        words: Column (`body`, `error`) to words that must all be in it, in any case.
        projects: Only rows of these; None for all.
        limit: Of the newest rows.
    """

    since: datetime
    until: datetime
    exact: dict[str, str | int]
    part: dict[str, str]
    words: dict[str, str]
    projects: frozenset[str] | None = None
    limit: int = ROWS_MAX


async def write(tx: Transaction, trace: Trace) -> None:
    """Add a row."""
    await tx.execute(
        _INSERT,
        microseconds(trace.timestamp),
        *(_clean(getattr(trace, name)) for name in _COLUMNS[1:]),
    )


async def forget(tx: Transaction, retention: timedelta = RETENTION) -> int:
    """Delete the rows that are older than that; return how many."""
    return await tx.execute(_DELETE, microseconds(tx.now - retention))


async def search(reader: Reader, wanted: Search) -> list[Trace]:
    """Return the newest rows that match, oldest first."""
    if wanted.projects is not None and not wanted.projects:
        return []
    sql, arguments = _query(reader, wanted)
    rows = await reader.fetch(sql, *arguments)
    return [_trace(row) for row in reversed(rows)]


def _query(reader: Reader, wanted: Search) -> tuple[str, list[Any]]:
    position = "strpos" if reader.dialect == "postgres" else "instr"
    arguments: list[Any] = [microseconds(wanted.since), microseconds(wanted.until)]
    conditions = ["timestamp_us >= $1", "timestamp_us <= $2"]

    def place(value: Any) -> str:  # noqa: ANN401  # str or int
        arguments.append(value)
        return f"${len(arguments)}"

    for column, value in wanted.exact.items():
        assert column in _EXACT
        conditions.append(f"{column} = {place(value)}")
    for column, text in wanted.part.items():
        assert column in {"path", "forwarded_for", "remote_addr"}
        conditions.append(f"{position}({column}, {place(text)}) > 0")
    for column, text in wanted.words.items():
        assert column in {"body", "error"}
        conditions += [
            f"{position}(lower({column}), {place(word.lower())}) > 0" for word in text.split()
        ]
    if wanted.projects is not None:
        listed = ", ".join(place(each) for each in sorted(wanted.projects))
        conditions.append(f"project IN ({listed})")
    sql = (
        f"SELECT {_SELECT} FROM audit_trace WHERE {' AND '.join(conditions)}"  # noqa: S608  # placeholders
        f" ORDER BY timestamp_us DESC, id DESC LIMIT {place(min(wanted.limit, ROWS_MAX))}"
    )
    return sql, arguments


def _trace(row: Sequence[Any]) -> Trace:
    values = dict(zip(_COLUMNS[1:], row[1:], strict=True))
    return Trace(timestamp=_EPOCH + timedelta(microseconds=row[0]), **values)


def _clean(value: str | int) -> str | int:
    """Return a value that every database takes: text without NUL and without half characters."""
    if isinstance(value, int):
        return value
    return value.replace("\0", "").encode("utf-8", "replace").decode()
