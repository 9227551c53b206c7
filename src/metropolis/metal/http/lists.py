# SPDX-License-Identifier: Apache-2.0
"""Pages and filters of lists: additions that a client which does not ask never notices.

    ?limit=100&after=<id>        at most so many, with greater ids; `x-next` names the last of them
    ?filter=allocation.project=p1&filter=state.value=LOCKED      all of these fields have the value

Without `limit` and `after` the order stays as the operation gives it; a page is ordered by id.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args, get_origin
from urllib.parse import quote

import msgspec

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.http.operation import Operation

LIMIT_MAX: Final = 10_000
PARAMETERS: Final = frozenset({"limit", "after", "filter"})
FILTERS_MAX: Final = 16
_KEYS: Final = ("id", "ipaddress", "machineid")  # by which of these fields rows are ordered
_UNORDERED: Final = frozenset({"sizeReservationsUsage", "findAuditTraces"})  # ids repeat
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EMPTY: Final = msgspec.Raw(b'""')
_SPLIT: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What part of a list is wanted."""

    limit: int | None = None
    after: str | None = None
    filters: tuple[tuple[tuple[str, ...], str], ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether the list is wanted as it is."""
        return self.limit is None and self.after is None and not self.filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a list, encoded.

    Attributes:
        next: What to name as `after` for the next page; empty when this was the last.
    """

    body: bytes
    next: str = ""


def key_of(operation: Operation[Any, Any]) -> tuple[str, ...] | None:
    """Return the path of the field that orders an operation's list; None where it has none."""
    if get_origin(operation.answer) not in {list, tuple, Sequence}:
        return None
    row = get_args(operation.answer)[0]
    if operation.id in _UNORDERED or not _is_struct(row):
        return None
    names = {each.encode_name for each in msgspec.structs.fields(row)}
    if "meta" in names:
        return ("meta", "id")
    return next(((key,) for key in _KEYS if key in names), None)


def window_of(pairs: Sequence[tuple[str, str]]) -> Window:
    """Read the parameters that an operation does not take itself.

    Raises:
        InvalidArgumentError: naming the one that does not fit.
    """
    limit: int | None = None
    after: str | None = None
    filters: list[tuple[tuple[str, ...], str]] = []
    for name, value in pairs:
        if name == "limit":
            if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= LIMIT_MAX:
                raise InvalidArgumentError(f"limit must be a number from 1 to {LIMIT_MAX}")
            limit = int(value[:9])
        elif name == "after":
            after = value
        elif name == "filter":
            path, sign, wanted = value.partition("=")
            if not sign or not path:
                raise InvalidArgumentError("filter must be <field>=<value>, fields with dots")
            filters.append((tuple(path.split(".")), wanted))
    if len(filters) > FILTERS_MAX:
        raise InvalidArgumentError(f"there are more than {FILTERS_MAX} filters")
    return Window(limit=limit, after=after, filters=tuple(filters))


class Rows:
    """An encoded list taken apart: once, however many pages of it are read."""

    def __init__(self, body: bytes, key: tuple[str, ...]) -> None:
        rows = _SPLIT.decode(body)
        keyed = sorted(((_key(raw, key), raw) for raw in rows), key=lambda each: each[0])
        self._given = rows
        self._keys = [each for each, _ in keyed]
        self._ordered = [raw for _, raw in keyed]

    def part(self, window: Window) -> Part:
        """Return what is wanted of the list."""
        if window.limit is None and window.after is None:
            return Part(body=_joined([raw for raw in self._given if _fits(raw, window)]))
        start = 0 if window.after is None else bisect_right(self._keys, window.after)
        page: list[msgspec.Raw] = []
        last = ""
        for index in range(start, len(self._keys)):
            if window.filters and not _fits(self._ordered[index], window):
                continue
            if window.limit is not None and len(page) == window.limit:
                return Part(body=_joined(page), next=last)
            page.append(self._ordered[index])
            last = self._keys[index]
        return Part(body=_joined(page))


def next_headers(path: str, pairs: Sequence[tuple[str, str]], after: str) -> Mapping[str, str]:
    """Return the headers that lead to the next page; none after the last."""
    if not after:
        return {}
    kept = [(name, value) for name, value in pairs if name != "after"]
    query = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in [*kept, ("after", after)]
    )
    return {"x-next": quote(after, safe=":/"), "link": f'<{path}?{query}>; rel="next"'}


def _joined(rows: Sequence[msgspec.Raw]) -> bytes:
    return b"[" + b",".join(bytes(row) for row in rows) + b"]"


def _key(raw: msgspec.Raw, path: tuple[str, ...]) -> str:
    """Return what orders a row, without decoding all of it."""
    for name in path:
        raw = _FIELDS.decode(raw).get(name, _EMPTY)
    return str(msgspec.json.decode(raw))


def _fits(raw: msgspec.Raw, window: Window) -> bool:
    row = msgspec.json.decode(raw)
    return all(_has(row, path, wanted) for path, wanted in window.filters)


def _has(row: Any, path: tuple[str, ...], wanted: str) -> bool:  # noqa: ANN401  # any JSON
    if isinstance(row, list):
        return any(_has(each, path, wanted) for each in cast("list[object]", row))
    if not path:
        return _text(row) == wanted
    if isinstance(row, dict):
        return _has(cast("dict[str, Any]", row).get(path[0]), path[1:], wanted)
    return wanted == "" and row is None


def _text(value: Any) -> str:  # noqa: ANN401  # any JSON
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _is_struct(kind: Any) -> bool:  # noqa: ANN401  # any type
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
