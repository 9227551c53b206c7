# SPDX-License-Identifier: Apache-2.0
"""What JSON looks like in the cell of a table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

Json = dict[str, Any]

KIB: Final = 1024
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400
NANOSECOND_S: Final = 1e-9
FAR_FUTURE_DAYS: Final = 20 * 365  # sets a date apart that means "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a table is looked at.

    Attributes:
        now: What ages are counted from.
        is_wide: Every column there is.
        has_symbols: The terminal can show pictures; else words stand for them.
        error_threshold_s: For how long the last error of a machine is shown.
    """

    now: datetime
    is_wide: bool = False
    has_symbols: bool = False
    error_threshold_s: float = 7 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Headers and rows of equal length.

    Attributes:
        lit: Cells that are shown in blue, because a light is on there too.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=list[Sequence[str]])
    lit: frozenset[str] = frozenset()


def at(document: object, path: str) -> Any:  # noqa: ANN401  # JSON
    """Return what is at a dotted path, None when there is nothing."""
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = cast("Json", document).get(name)
    return document


def entries(document: object, path: str) -> list[Json]:
    """Return the objects in the list at a dotted path, none when there is no list."""
    value = at(document, path)
    return cast("list[Json]", value) if isinstance(value, list) else []


def fields(document: object, path: str) -> Json:
    """Return the object at a dotted path, an empty one when there is none."""
    value = at(document, path)
    return cast("Json", value) if isinstance(value, dict) else {}


def number(document: object, path: str) -> int:
    """Return the number at a dotted path, 0 when there is none."""
    value = at(document, path)
    return int(value) if isinstance(value, int | float) else 0


def text(document: object, path: str) -> str:
    """Return what is at a dotted path as text, empty when there is nothing."""
    value = at(document, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def listed(values: object) -> str:
    """Render a list, or a map of labels."""
    if isinstance(values, Mapping):
        pairs = cast("Mapping[str, object]", values)
        return ",".join(f"{key}={value}" if value else key for key, value in pairs.items())
    return ",".join(map(str, cast("list[object]", values or [])))


def parsed_time(value: object) -> datetime | None:
    """Return a time of the API; None when it was not set."""
    if not isinstance(value, str) or not value or value.startswith("0001-"):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def age(value: object, now: datetime) -> str:
    """Render how long ago a time of the API was."""
    found = parsed_time(value)
    return "" if found is None else duration((now - found).total_seconds())


def duration(seconds: float) -> str:
    """Render the two greatest units of a duration, such as `4d 3h`."""
    rest = int(max(seconds, 0))
    parts: list[str] = []
    for unit, length_s in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S), ("s", 1)):
        count, rest = divmod(rest, length_s)
        if parts and not count:
            break
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def expiry(value: object, now: datetime) -> str:
    """Render how long it is until a time of the API."""
    found = parsed_time(value)
    if found is None:
        return "never"
    left_s = (found - now).total_seconds()
    if left_s <= 0:
        return "expired"
    return "never" if left_s > FAR_FUTURE_DAYS * DAY_S else duration(left_s)


def byte_count(count: int) -> str:
    """Render a number of bytes with a binary unit."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < KIB:
            return f"{size:.4g} {unit}"
        size /= KIB
    return f"{size:.4g} PiB"


def yes(value: object) -> str:
    """Render a flag; a blank is easier on the eye than `false`."""
    return "true" if value else ""


def moment(value: object) -> str:
    """Render a time of the API to the second, in UTC."""
    found = parsed_time(value)
    return "" if found is None else found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
