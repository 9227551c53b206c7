# SPDX-License-Identifier: Apache-2.0
"""The repository checks itself for what no linter knows. Prints each fault with its remedy."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
LICENCE = "# SPDX-License-Identifier: Apache-2.0"
BANNED_MODULE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "core"}
# Words that would tie a committed text to the place where it was written.
BANNED_TEXTS = (
    re.compile(r"\.\./" + "shared"),
    re.compile("/" + r"work/"),
    re.compile(r"TO" + "DO|FIX" + "ME"),
)
GENERATED = "src/metropolis/api/"


def tracked(pattern: str) -> list[Path]:
    """Files that are committed or about to be, without those deleted in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = sorted(set(listed.stdout.decode().split("\0")) - {""})
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def python_faults(path: Path) -> Iterator[str]:
    """Length, licence and name of one Python file."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith(GENERATED):
        return
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines[:1] != [LICENCE]:
        yield f"{name}: does not start with the licence line; add `{LICENCE}`"
    if path.stem in BANNED_MODULE_NAMES:
        yield f"{name}: says nothing about its subject; name it after what it holds"
    if name.startswith("src/") and len(lines) > FILE_LINES_MAX:
        yield f"{name}: has {len(lines)} lines, more than {FILE_LINES_MAX}; split it by subject"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if name.startswith("src/") and length > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines; split it"


def text_faults(path: Path) -> Iterator[str]:
    """Words that may not be committed."""
    name = path.relative_to(ROOT).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    for pattern in BANNED_TEXTS:
        if match := pattern.search(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: contains {match.group()!r}; say it in the project's own words"


def layer_rooms() -> list[str]:
    """The rooms in the order of the layers contract, lowest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [layer.strip("() ") for layer in reversed(layers)]


def architecture_faults() -> Iterator[str]:
    """ARCHITECTURE.md lists the rooms of the layers contract, in its order."""
    whole = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    text = whole.partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z]+)` \|", text, flags=re.MULTILINE)
    rooms = layer_rooms()
    if listed != rooms:
        yield f"ARCHITECTURE.md: lists {listed}, the layers contract {rooms}; make them equal"
    for room in listed:
        page = ROOT / "src" / "metropolis" / room / "__init__.py"
        if page.exists() and not ast.get_docstring(ast.parse(page.read_text(encoding="utf-8"))):
            yield f"{room}: its __init__.py has no docstring, which is the room's page"


def main() -> int:
    """Print every fault; the exit status says whether there was one."""
    faults = list(architecture_faults())
    for path in tracked("*.py"):
        faults += python_faults(path)
    for pattern in ("*.py", "*.md", "*.toml", "*.proto", "Makefile", ".ci/run"):
        for path in tracked(pattern):
            faults += text_faults(path)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
