# SPDX-License-Identifier: Apache-2.0
r"""Shell patterns, matched in time proportional to pattern times text, whatever the pattern.

`*` matches any text, `?` any one character, `[a-z]` and `[^a-z]` one of a set, and `\` takes the
next character as it is.
"""

from dataclasses import dataclass

from metropolis.base.errors import InvalidArgumentError

LENGTH_MAX = 1024  # characters of a pattern; models of CPUs have less than 100


@dataclass(frozen=True, slots=True)
class _One:
    """One character: any, or within (without, when negated) some ranges."""

    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = True

    def matches(self, character: str) -> bool:
        inside = any(low <= character <= high for low, high in self.ranges)
        return inside is not self.negated


_ANY = _One()
_STAR = None
_Token = _One | None


def validate(pattern: str) -> None:
    """Judge a pattern.

    Raises:
        InvalidArgumentError: it is not well-formed.
    """
    _parse(pattern)


def matches(pattern: str, text: str) -> bool:
    """Whether all of a text matches a pattern."""
    tokens = _parse(pattern)
    at = position = 0
    star, resume = -1, 0
    while position < len(text):
        token = tokens[at] if at < len(tokens) else _ANY
        if at < len(tokens) and token is _STAR:
            star, resume = at, position
            at += 1
        elif at < len(tokens) and token is not None and token.matches(text[position]):
            at += 1
            position += 1
        elif star >= 0:  # let the last star take one character more
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(token is _STAR for token in tokens[at:])


def escape(text: str) -> str:
    """Return a pattern that matches this text alone."""
    return "".join(f"\\{character}" if character in "*?[\\" else character for character in text)


def _parse(pattern: str) -> list[_Token]:
    if len(pattern) > LENGTH_MAX:
        raise _malformed(pattern[:40] + "…", f"it is longer than {LENGTH_MAX} characters")
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            tokens.append(_STAR)
        elif character == "?":
            tokens.append(_ANY)
        elif character == "[":
            token, at = _parse_set(pattern, at)
            tokens.append(token)
        else:
            if character == "\\":
                if at == len(pattern):
                    raise _malformed(pattern, "nothing follows the backslash")
                character = pattern[at]
                at += 1
            tokens.append(_One(ranges=((character, character),), negated=False))
    return tokens


def _parse_set(pattern: str, at: int) -> tuple[_One, int]:
    """Read a set from behind its bracket to behind its end."""
    negated = pattern[at : at + 1] in ("^", "!")
    at += negated
    ranges: list[tuple[str, str]] = []
    while True:
        low, at = _parse_member(pattern, at)
        high = low
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] != "]":
            high, at = _parse_member(pattern, at + 1)
        if high < low:
            raise _malformed(pattern, f"the range {low}-{high} is empty")
        ranges.append((low, high))
        if pattern[at : at + 1] == "]":
            return _One(ranges=tuple(ranges), negated=negated), at + 1


def _parse_member(pattern: str, at: int) -> tuple[str, int]:
    at += pattern[at : at + 1] == "\\"
    if at >= len(pattern):
        raise _malformed(pattern, "a [ has no ]")
    return pattern[at], at + 1


def _malformed(pattern: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"identifier: pattern {pattern!r} is not understood: {why}",
        remedy="Write a shell pattern of *, ?, [a-z] and plain characters.",
    )
