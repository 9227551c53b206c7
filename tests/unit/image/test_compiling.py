# SPDX-License-Identifier: Apache-2.0
"""Compiling: each source once, by an interpreter that is told nothing of the builder."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import SourcelessFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from typing_extensions import override

from metropolis.image.compiling import Compiler, matching
from metropolis.image.sysroot import Sysroot, merge_packages, package_files
from metropolis.image.tree import File, Link, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisPython(Sysroot):
    """Runs the interpreter of these tests in place of an image's."""

    @override
    def run(
        self,
        program: str,
        *arguments: str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        assert program == "usr/bin/python3.13"
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, check=True, timeout=timeout_s
        )
        return done.stdout


def compiler(cache: Path, said: list[str]) -> Compiler:
    return Compiler(
        sysroot=ThisPython(root=Path("/")), cache=cache, identity="this", say=said.append
    )


def sources() -> Tree:
    return Tree(
        {
            "lib/one.py": File(content=b"ANSWER = 6 * 7\n"),
            "lib/package/__init__.py": File(content=b""),
            "lib/data.json": File(content=b"{}"),
            "bin": Link(target="usr/bin"),
        }
    )


def test_sources_become_bytecode_in_their_place_and_the_rest_stays(tmp_path: Path) -> None:
    said: list[str] = []
    compiled = compiler(tmp_path, said).compiled(sources())
    assert sorted(compiled.entries) == [
        "bin",
        "lib/data.json",
        "lib/one.pyc",
        "lib/package/__init__.pyc",
    ]
    assert said == ["compiling 2 Python files"]
    entry = compiled.entries["lib/one.pyc"]
    assert isinstance(entry, File)
    place = tmp_path / "one.pyc"
    place.write_bytes(entry.read())
    loader = SourcelessFileLoader("one", str(place))
    spec = spec_from_loader("one", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    assert module.ANSWER == 42
    code = loader.get_code("one")
    assert code is not None
    assert code.co_filename == "/lib/one.py", "nothing of the build machine's paths"


def test_a_source_is_compiled_once_and_a_changed_one_again(tmp_path: Path) -> None:
    said: list[str] = []
    first = compiler(tmp_path, said).compiled(sources())
    again = compiler(tmp_path, said).compiled(sources())
    assert first == again
    assert len(said) == 1
    changed = sources()
    changed.entries["lib/one.py"] = File(content=b"ANSWER = 43\n")
    compiler(tmp_path, said).compiled(changed)
    assert said[1:] == ["compiling 1 Python files"]


def test_another_interpreter_shares_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    compiler(tmp_path, said).compiled(sources())
    other = Compiler(
        sysroot=ThisPython(root=Path("/")), cache=tmp_path, identity="other", say=said.append
    )
    other.compiled(sources())
    assert len(said) == 2


def test_patterns_match_a_path_or_a_directory_it_is_in() -> None:
    names = ["test/a.py", "x/test/b.py", "x/tests/c.py", "a.pyi", "x/deep/a.pyi", "x/y.py"]
    assert matching(names, ["test"]) == {"test/a.py"}
    assert matching(names, ["*/tests"]) == {"x/tests/c.py"}
    assert matching(names, ["*.pyi"]) == {"a.pyi", "x/deep/a.pyi"}
    assert matching(names, []) == frozenset()


def test_packages_become_one_directory_whatever_they_call_the_merged_places(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one / "lib/x86/libone.so.1", two / "usr/lib/x86/libtwo.so.2"):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    (two / "usr/share/doc/two").mkdir(parents=True)
    (two / "usr/share/doc/two/copyright").write_text("free")
    (two / "usr/lib/x86/libtwo.so").symlink_to("libtwo.so.2")
    (two / "usr/lib/absolute").symlink_to("/lib/x86/libone.so.1")
    root = tmp_path / "root"
    root.mkdir()
    merge_packages([one, two], root)
    sysroot = Sysroot(root=root)
    assert sysroot.path("usr/lib/x86/libone.so.1").read_text() == "libone.so.1"
    assert sysroot.path("usr/lib/x86/libtwo.so").read_text() == "libtwo.so.2"
    assert (root / "usr/lib/absolute").readlink() == Path("../../lib/x86/libone.so.1")
    assert sysroot.path("usr/lib/absolute").read_text() == "libone.so.1"
    assert not (root / "usr/share/doc").exists()
    assert package_files(one) == ("usr/lib/x86/libone.so.1",)
