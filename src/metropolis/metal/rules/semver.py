# SPDX-License-Identifier: Apache-2.0
"""Versions of images, read leniently, and constraints on them.

A constraint is one operator and a version, `>= 24.04.20250101`, or a version alone, or `*`. What it
allows is a union of intervals of versions, so that two constraints can be compared: `overlap` is
exact, not a heuristic.

An operator applies to as much of the version as was written: `> 24.04` begins at 24.5.0,
`<= 24` includes 24.99.1, `24.04` alone is the same as `~ 24.04`.

Source: the operators are those of github.com/Masterminds/semver 3, which clients know.
"""

import re
from dataclasses import dataclass
from functools import total_ordering

from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError

_VERSION = re.compile(r"v?([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:\.([0-9]{1,18}))?", re.ASCII)

Triple = tuple[int, int, int]


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """Major, minor and patch; what was not written is 0."""

    major: int
    minor: int = 0
    patch: int = 0

    @property
    def triple(self) -> Triple:
        """For comparing."""
        return (self.major, self.minor, self.patch)

    def __lt__(self, other: "Version") -> bool:
        return self.triple < other.triple

    @override
    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Interval:
    """Versions from `low` on and below `high`; without `high` there is no end."""

    low: Triple
    high: Triple | None = None

    def intersects(self, other: "Interval") -> bool:
        """Whether a version lies in both."""
        low = max(self.low, other.low)
        return all(end is None or low < end for end in (self.high, other.high))


@dataclass(frozen=True, slots=True)
class Constraint:
    """What versions are allowed."""

    text: str
    intervals: tuple[Interval, ...]

    def allows(self, version: Version) -> bool:
        """Whether a version is allowed."""
        return any(
            interval.low <= version.triple
            and (interval.high is None or version.triple < interval.high)
            for interval in self.intervals
        )

    def overlaps(self, other: "Constraint") -> bool:
        """Whether some version is allowed by both."""
        return any(ours.intersects(theirs) for ours in self.intervals for theirs in other.intervals)


_BOTTOM: Triple = (0, 0, 0)
ANY = Constraint(text="*", intervals=(Interval(_BOTTOM),))


def parse_version(text: str) -> Version:
    """Read `24.04.20250101`, `24.04`, `24` or `v24`.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    return _read(text)[0]


def parse_constraint(text: str) -> Constraint:
    """Read a constraint.

    Raises:
        InvalidArgumentError: unknown operator, or no version, or no single space between them.
    """
    if text == "*":
        return ANY
    operator, space, rest = text.rpartition(" ")
    if operator not in _BOUNDS or bool(operator) is not bool(space):
        raise InvalidArgumentError(
            f"version constraint {text!r} is not understood",
            remedy=f"Write one of {', '.join(filter(None, _BOUNDS))}, one space and a version; "
            "or a version alone; or *.",
        )
    version, parts = _read(rest)
    return Constraint(text=text, intervals=tuple(_BOUNDS[operator](version.triple, parts)))


def _read(text: str) -> tuple[Version, int]:
    """Read a version, and how many of its three parts were written."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(
            f"version {text!r} is not understood",
            remedy="Write a version as <major>[.<minor>[.<patch>]], in digits.",
        )
    parts = [int(part) for part in match.groups() if part is not None]
    return Version(*parts), len(parts)


def _after(triple: Triple, parts: int) -> Triple:
    """Return the first version behind all that begin with the first `parts` parts of this one."""
    major, minor, patch = triple
    match parts:
        case 1:
            return (major + 1, 0, 0)
        case 2:
            return (major, minor + 1, 0)
        case _:
            return (major, minor, patch + 1)


def _equal(triple: Triple, parts: int) -> list[Interval]:
    return [Interval(triple, _after(triple, parts))]


def _differs(triple: Triple, parts: int) -> list[Interval]:
    behind = Interval(_after(triple, parts))
    return [Interval(_BOTTOM, triple), behind] if triple > _BOTTOM else [behind]


def _greater(triple: Triple, parts: int) -> list[Interval]:
    return [Interval(_after(triple, parts))]


def _less(triple: Triple, _parts: int) -> list[Interval]:
    return [Interval(_BOTTOM, triple)]


def _at_least(triple: Triple, _parts: int) -> list[Interval]:
    return [Interval(triple)]


def _at_most(triple: Triple, parts: int) -> list[Interval]:
    return [Interval(_BOTTOM, _after(triple, parts))]


def _tilde(triple: Triple, parts: int) -> list[Interval]:
    return [Interval(triple, _after(triple, min(parts, 2)))]


def _caret(triple: Triple, parts: int) -> list[Interval]:
    """Up to the next change of the first part that is not zero, among those written."""
    significant = next((at for at, part in enumerate(triple[:parts], 1) if part), parts)
    return [Interval(triple, _after(triple, significant))]


_BOUNDS = {
    "": _equal,
    "=": _equal,
    "!=": _differs,
    ">": _greater,
    "<": _less,
    ">=": _at_least,
    "=>": _at_least,
    "<=": _at_most,
    "=<": _at_most,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}
