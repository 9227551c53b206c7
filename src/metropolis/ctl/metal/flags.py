# SPDX-License-Identifier: Apache-2.0
"""Flags as data: what people type, and where it goes in the body of a request."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.metal.cells import DAY_S, HOUR_S, MINUTE_S, Json
from metropolis.ctl.metal.completions import complete_ids, complete_words

_UNITS_S: Final = {"d": DAY_S, "h": HOUR_S, "m": MINUTE_S, "s": 1, "ms": 1e-3, "w": 7 * DAY_S}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])")


class Kind(Enum):
    """What people write after a flag."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    TEXTS = "texts"  # repeated, or with commas
    PAIRS = "pairs"  # NAME=VALUE, repeated, or with commas


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        to: Dotted path in the body; empty: a command knows better what to do with it.
        record: Each value becomes an object of this one field.
        is_listed: The one value becomes a list.
        completes: Entity whose ids are offered.
        choices: Words that are offered; the server judges them.
        is_required: Of a body that is made of flags.
    """

    name: str
    help: str
    to: str = ""
    kind: Kind = Kind.TEXT
    record: str = ""
    is_listed: bool = False
    completes: str = ""
    choices: tuple[str, ...] = ()
    default: object = None
    metavar: str = ""
    is_required: bool = False

    @property
    def parameter(self) -> str:
        """How click calls it."""
        return self.name.replace("-", "_") + "_value"

    def option(self) -> click.Option:
        """Return the flag as click has it."""
        required = "  [required without -f]" if self.is_required else ""
        attributes: dict[str, Any] = {"help": self.help + required, "default": self.default}
        if self.kind is Kind.SWITCH:
            attributes["is_flag"] = True
            attributes["default"] = False
        else:
            attributes["metavar"] = self.metavar or _METAVARS[self.kind]
        if self.kind is Kind.NUMBER:
            attributes["type"] = int
        if self.kind in (Kind.TEXTS, Kind.PAIRS):
            attributes["multiple"] = True
            attributes["default"] = ()
        if self.completes:
            attributes["shell_complete"] = complete_ids(self.completes)
        elif self.choices:
            attributes["shell_complete"] = complete_words(self.choices)
        return click.Option([f"--{self.name}", self.parameter], **attributes)

    def value(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401  # as the kind says
        """Return what was typed, None when nothing was.

        Raises:
            InvalidArgumentError: a pair is none.
        """
        value = given.get(self.parameter)
        if self.kind is Kind.SWITCH:
            return True if value else None
        if self.kind is Kind.TEXTS:
            return split(value) or None
        if self.kind is Kind.PAIRS:
            return pairs(split(value), flag=self.name) or None
        return value


_METAVARS: Final = {
    Kind.TEXT: "TEXT",
    Kind.NUMBER: "NUMBER",
    Kind.TEXTS: "TEXT,…",
    Kind.PAIRS: "NAME=VALUE,…",
}


def readded(old: Sequence[str], given: Mapping[str, Any], name: str) -> list[str] | None:
    """Add and remove as `--add-NAME` and `--remove-NAME` say; None: neither was given."""
    added = split(given.get(texts_flag(f"add-{name}", "").parameter))
    removed = split(given.get(texts_flag(f"remove-{name}", "").parameter))
    if not added and not removed:
        return None
    kept = [each for each in old if each not in removed]
    return kept + [each for each in added if each not in kept]


def body_of(flags: Sequence[Flag], given: Mapping[str, Any]) -> Json:
    """Put what was typed where it belongs in a body.

    Raises:
        InvalidArgumentError: a value does not fit its flag, or must be given.
    """
    body: Json = {}
    for flag in flags:
        value = flag.value(given)
        if value is None and flag.is_required:
            raise InvalidArgumentError(
                f"--{flag.name} is missing",
                remedy=f"Add it: {flag.help[:1].lower()}{flag.help[1:]}",
            )
        if value is None or not flag.to:
            continue
        if flag.record:
            value = [{flag.record: each} for each in value]
        elif flag.is_listed:
            value = [value]
        put(body, flag.to, value)
    return body


def put(body: Json, path: str, value: object) -> None:
    """Store a value at a dotted path, making the objects on the way."""
    *way, last = path.split(".")
    for name in way:
        body = body.setdefault(name, {})
    body[last] = value


def split(values: Sequence[str] | None) -> list[str]:
    """Split what was repeated or given with commas."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return [part for part in parts if part]


def pairs(values: Sequence[str], *, flag: str) -> dict[str, str]:
    """Understand `NAME=VALUE`.

    Raises:
        InvalidArgumentError: one has no name.
    """
    found: dict[str, str] = {}
    for value in values:
        name, _, text = value.partition("=")
        if not name:
            raise InvalidArgumentError(
                f"{value[:64]!r} has no name before its =", remedy=f"Write --{flag} NAME=VALUE."
            )
        found[name] = text
    return found


def parse_duration(text: str) -> float:
    """Understand `90s`, `1h30m`, `7d`; return seconds.

    Raises:
        InvalidArgumentError: it is no duration.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise InvalidArgumentError(
            f"{text[:64]!r} is no duration", remedy="Write it as 90s, 1h30m or 7d."
        )
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def text_flag(name: str, help: str, to: str = "", **more: Any) -> Flag:  # noqa: A002, ANN401  # as click says it
    """Make a flag for a text."""
    return Flag(name=name, help=help, to=to, **more)


def number_flag(name: str, help: str, to: str = "", **more: Any) -> Flag:  # noqa: A002, ANN401  # as click says it
    """Make a flag for a number."""
    return Flag(name=name, help=help, to=to, kind=Kind.NUMBER, **more)


def texts_flag(name: str, help: str, to: str = "", **more: Any) -> Flag:  # noqa: A002, ANN401  # as click says it
    """Make a flag for a list."""
    return Flag(name=name, help=help, to=to, kind=Kind.TEXTS, **more)


def pairs_flag(name: str, help: str, to: str = "") -> Flag:  # noqa: A002  # as click says it
    """Make a flag for a map."""
    return Flag(name=name, help=help, to=to, kind=Kind.PAIRS)


def switch_flag(name: str, help: str, to: str = "") -> Flag:  # noqa: A002  # as click says it
    """Make a flag without a value."""
    return Flag(name=name, help=help, to=to, kind=Kind.SWITCH)


Hook = Callable[[Json, Mapping[str, Any]], None]
