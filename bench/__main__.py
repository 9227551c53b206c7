# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [MODULE…]`: measure, print a table, write build/bench.json."""

import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import bench

OUTPUT = Path(__file__).resolve().parent.parent / "build" / "bench.json"
ON_DEMAND = ("boot", "faults", "metal", "scale")  # programs of their own: see Makefile
Figures = dict[str, tuple[float, str, float | None]]


def is_met(value: float, unit: str, target: float | None) -> bool | None:
    """Compare a figure with its target; None when it has none."""
    if target is None:
        return None
    return value >= target if unit.endswith("/s") else value <= target


def run(names: Sequence[str]) -> Figures:
    """Measure every named module, each after it said what it is."""
    figures: Figures = {}
    for name in names:
        module = importlib.import_module(f"bench.{name}")
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        figures |= {f"{name}.{key}": figure for key, figure in module.measure().items()}
    return figures


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit status is 0 even when a target is missed."""
    found = [each.name for each in pkgutil.iter_modules(bench.__path__)]
    known = [name for name in found if name not in {"__main__", *ON_DEMAND}]
    names = list(arguments) or [name for name in known if not name.startswith(("_", "metal_"))]
    if unknown := [name for name in names if name not in known]:
        print(f"error: no benchmark is called {', '.join(unknown)}", file=sys.stderr)
        print(f"remedy: choose from {', '.join(known)}", file=sys.stderr)
        return 1
    figures = run(names)
    marks = {True: "met", False: "MISSED", None: ""}
    print(f"{'FIGURE':<58} {'VALUE':>14} {'UNIT':<12} {'TARGET':>12}")
    for name, (value, unit, target) in figures.items():
        bound = "" if target is None else f"{target:,.10g}"
        mark = marks[is_met(value, unit, target)]
        print(f"{name:<58} {value:>14,.1f} {unit:<12} {bound:>12} {mark}".rstrip())
    OUTPUT.parent.mkdir(exist_ok=True)
    rows = {
        name: {"value": value, "unit": unit, "target": target, "met": is_met(value, unit, target)}
        for name, (value, unit, target) in figures.items()
    }
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
