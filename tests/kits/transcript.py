# SPDX-License-Identifier: Apache-2.0
"""Pages that show commands with what they say, held against what commands really say.

What differs from run to run is compared by its kind: numbers, versions, ids of disks. Node ids and
digests stand for one thing each: the first time that one is seen tells which, and from then on
it has to be that one, in commands, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CUT = "[…]"
_NODE_ID = r"metropolis-[0-9a-f]{32}"
_DIGEST = r"[0-9a-f]{64}"
_ADDRESS = r"\b\d+\.\d+\.\d+\.\d+\b"
_VERSION = r"\b\d+\.\d+\.\d+-\S+"
_NUMBER = r"\b\d+(?:\.\d+)?"
_NAMED = re.compile(f"{_NODE_ID}|{_DIGEST}")
_TOKEN = re.compile(
    rf"(?P<named>{_NODE_ID}|{_DIGEST})|(?P<address>{_ADDRESS})|(?P<version>{_VERSION})"
    rf"|(?P<number>{_NUMBER})|(?P<space>\s+)"
)
_KINDS = {"version": r"\d+\.\d+\.\d+-\S+", "number": r"\d+(?:\.\d+)?", "space": r"\s+"}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A command of a page, and the lines that stand below it."""

    heading: str
    command: str
    shown: Sequence[str]


def exchanges(page: Path) -> list[Exchange]:
    """Take the `console` blocks of a page apart, in order."""
    found: list[Exchange] = []
    heading = ""
    shown: list[str] | None = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if shown is None:
            heading = line.lstrip("# ") if line.startswith("#") else heading
            shown = [] if line == "```console" else None
        elif line == "```":
            shown = None
        elif line.startswith("$ "):
            shown = []
            found.append(Exchange(heading=heading, command=line[2:], shown=shown))
        else:
            shown.append(line)
    return found


class Transcript:
    """Knows which of the page's names stands for which real one."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def spoken(self, command: str) -> str:
        """Return a command of the page with real names in it."""
        return _NAMED.sub(lambda name: self._real[name[0]], command)

    def first_missing(self, shown: Sequence[str], said: str) -> str | None:
        """Return the first shown line that was not said, in this order; None if all were.

        Rows of nodes may come in any order: it is that of their ids. What was learned from a text
        that lacks a line is forgotten again.
        """
        lines = [line.strip() for line in said.splitlines()]
        learned: dict[str, str] = {}
        cursor = 0
        for line in shown:
            if line.strip() in {"", CUT}:
                continue
            is_row = re.match(_NODE_ID + " ", line) is not None
            start = 0 if is_row else cursor
            at = self._find(line.strip(), lines, start, learned)
            if at is None:
                return line
            cursor = cursor if is_row else at + 1
        self._real |= learned
        return None

    def _find(
        self, shown: str, lines: Sequence[str], start: int, learned: dict[str, str]
    ) -> int | None:
        names, pattern = self._pattern(shown, learned)
        for at, line in enumerate(lines[start:], start):
            if (match := pattern.fullmatch(line)) is not None:
                new = dict(zip(names, match.groups(), strict=True))
                known = {*self._real.values(), *learned.values()}
                is_one_to_one = len(set(new.values())) == len(new)
                if is_one_to_one and not known.intersection(new.values()):
                    learned |= new
                    return at
        return None

    def _pattern(self, shown: str, learned: dict[str, str]) -> tuple[list[str], re.Pattern[str]]:
        """Make an expression, with a group for each name that nobody knows yet."""
        known = self._real | learned
        names: list[str] = []
        text, end = "", 0
        for token in _TOKEN.finditer(shown):
            text += re.escape(shown[end : token.start()])
            end = token.end()
            kind, word = token.lastgroup, token[0]
            assert kind is not None
            if kind == "address":
                text += re.escape(word)
            elif kind != "named":
                text += _KINDS[kind]
            elif word in known:
                text += re.escape(known[word])
            elif word in names:
                text += rf"\{names.index(word) + 1}"
            else:
                names.append(word)
                text += f"({_NODE_ID if word.startswith('metropolis-') else _DIGEST})"
        return names, re.compile(text + re.escape(shown[end:]))
