# SPDX-License-Identifier: Apache-2.0
"""Break one module in many small ways and count how many of them its tests notice.

    python tools/mutants.py src/metropolis/cluster/planner/roles.py tests/unit/cluster/test_roles.py

Each mutant is one edit: a comparison flipped, `and` for `or`, a number one more or less, a
condition negated, a `not` dropped, None returned, a statement removed. It is tried in a process of
its own, in which the tests import the edited module instead of the file; the file is never
touched. A mutant that outlives the time limit counts as noticed: the test run would have hung.

Annotations, decorators, patterns, docstrings, texts and asserts are left alone: what asserts catch
are the mistakes of whoever calls. The sample is drawn from a seed, so a run can be repeated.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401  # imported once here, so that no mutant pays for it
import pytest
from typing_extensions import override

from metropolis.api import management_pb2, methods  # noqa: F401  # as above

SAMPLE = 60
SEED = 7
TIMES_SLOWER_MAX = 5.0
PATIENCE_S = 5.0

FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.In: ast.NotIn,
}
FLIPS |= {after: before for before, after in FLIPS.items()}


class Edit(ast.NodeTransformer):
    """Counts the places where a module can be edited, and edits the wanted one."""

    def __init__(self, wanted: int = -1) -> None:
        self.count = 0
        self.what = ""
        self._wanted = wanted

    def _offer(self, node: ast.AST, edited: ast.AST) -> ast.AST:
        self.count += 1
        if self.count - 1 != self._wanted:
            return node
        shown = " => ".join(ast.unparse(each).replace("\n", " ")[:70] for each in (node, edited))
        self.what = f"line {getattr(node, 'lineno', 0)}: {shown}"
        return ast.copy_location(edited, node)

    @override
    def visit(self, node: ast.AST) -> ast.AST:
        """Edit what is below the node, then perhaps the node."""
        if isinstance(node, ast.Assert | ast.pattern | ast.JoinedStr):
            return node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            if isinstance(value, list):
                value[:] = [
                    self.visit(each) if isinstance(each, ast.AST) else each for each in value
                ]
            elif isinstance(value, ast.AST):
                setattr(node, field, self.visit(value))
        for edited in _edits(node):
            node = self._offer(node, edited)
        return node


def _edits(node: ast.AST) -> Sequence[ast.AST]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in FLIPS:
            return [ast.Compare(node.left, [FLIPS[type(op)]()], node.comparators)]
        case ast.BoolOp(op=op):
            return [ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), node.values)]
        case ast.UnaryOp(op=ast.Not()):
            return [node.operand]
        case ast.Constant(value=bool(value)):
            return [ast.Constant(not value)]
        case ast.Constant(value=int(value)):
            return [ast.Constant(value + 1), ast.Constant(value - 1)]
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
            return [ast.If(ast.UnaryOp(ast.Not(), test), node.body, node.orelse)]
        case ast.Return(value=ast.expr() as value):
            is_none = isinstance(value, ast.Constant) and value.value is None
            return [] if is_none else [ast.Return(ast.Constant(None))]
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call() | ast.Await()):
            return [ast.Pass()]
        case _:
            return []


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives out one module as it was edited."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    @override
    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Know one name."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    @override
    def exec_module(self, module: ModuleType) -> None:
        """Run the edited module."""
        exec(compile(self._tree, self._path, "exec"), module.__dict__)  # noqa: S102


def is_noticed(finder: Loader, tests: Sequence[str], *, limit_s: float) -> bool:
    """Run the tests in a process of their own; tell whether they fail, or do not end."""
    until_s = time.monotonic() + limit_s
    if not (process_id := os.fork()):
        sys.meta_path.insert(0, finder)
        for output in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        os._exit(int(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *tests])))
    while not (ended := os.waitpid(process_id, os.WNOHANG))[0]:
        if time.monotonic() > until_s:
            os.kill(process_id, signal.SIGKILL)
        time.sleep(0.01)
    return ended[1] != 0


def main() -> int:
    """Print every mutant that survives, and the figures. Exit 1 if the tests fail by themselves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("module", type=Path, help="below src/, not imported by anything above")
    parser.add_argument("tests", nargs="+", help="files of tests, as for pytest")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many mutants at most")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    name = ".".join(given.module.with_suffix("").parts[1:])
    assert name not in sys.modules, f"{name} is imported by the tool itself"
    tree = ast.parse(given.module.read_text(encoding="utf-8"))
    begun_s = time.monotonic()
    if is_noticed(Loader(name, given.module, tree), given.tests, limit_s=600):
        print("error: the tests fail without any mutant", file=sys.stderr)
        return 1
    limit_s = PATIENCE_S + TIMES_SLOWER_MAX * (time.monotonic() - begun_s)
    counter = Edit()
    counter.visit(copy.deepcopy(tree))
    size = min(given.sample, counter.count)
    chosen = random.Random(given.seed).sample(range(counter.count), size)  # noqa: S311
    survived = 0
    for number in sorted(chosen):
        edit = Edit(number)
        edited = copy.deepcopy(tree)
        edit.visit(edited)
        ast.fix_missing_locations(edited)
        if not is_noticed(Loader(name, given.module, edited), given.tests, limit_s=limit_s):
            survived += 1
            print(f"  survived  {edit.what}", flush=True)
    print(f"{name}: {counter.count} mutants, {len(chosen)} tried, {survived} survived", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
