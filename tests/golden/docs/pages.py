# SPDX-License-Identifier: Apache-2.0
"""The pages that people read, taken apart: fenced blocks, commands, headings."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
HANDBOOK = ROOT / "docs" / "handbook"
PAGES = (
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCE = re.compile(r"^ *```(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, its lines, and the number of its first line."""

    page: Path
    language: str
    lines: Sequence[str]
    line_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command as a reader would type it, and where it stands."""

    text: str
    place: str


@cache
def tool() -> ModuleType:
    """Return tools/handbook.py as a module."""
    spec = importlib.util.spec_from_file_location("handbook_tool", ROOT / "tools" / "handbook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    language: str | None = None
    lines: list[str] = []
    start = 0
    for number, line in enumerate(read(page).splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif language is None:
            language, lines, start = fence[1].strip(), [], number + 1
        else:
            yield Block(page=page, language=language, lines=lines, line_number=start)
            language = None
    assert language is None, f"{named(page)}: a block is not closed"


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    kept, is_inside = [], False
    for line in read(page).splitlines():
        if _FENCE.match(line):
            is_inside = not is_inside
        elif not is_inside:
            kept.append(line)
    return "\n".join(kept)


def anchors(page: Path) -> set[str]:
    """Return the anchors that headings of a page make."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown_commands() -> Iterator[Shown]:
    """Yield every command that a `console` block shows after a `$`."""
    for page in PAGES:
        for block in blocks(page):
            if block.language != "console":
                continue
            for offset, line in enumerate(block.lines):
                if line.startswith("$ "):
                    place = f"{named(page)}:{block.line_number + offset}"
                    yield Shown(text=line[2:], place=place)
