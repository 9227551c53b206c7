# SPDX-License-Identifier: Apache-2.0
"""Bytecode: one form, whatever the process that compiled held on to."""

import marshal
import random
import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.image import bytecode

SOURCE = '''
"""A module with what constants there are."""
import os
PI = 3.14159
BIG = 123456789012345678901234567890
TABLE = {"alpha": (1, 2.5, 3j, None, ..., b"bytes"), "beta": ("alpha", "a text with spaces", "ü")}
WORDS = "x" in {"one", "two", "three", "four"}

class Thing:
    name: str = "a text with spaces"

    def method(self, *, alpha: int = 1) -> list[int]:
        outer = alpha
        def inner() -> int:
            nonlocal outer
            outer += 1
            return outer
        return [inner() + each for each in range(alpha) if each not in (1, 2, 3)]
'''


def everything_in(code: CodeType) -> list[object]:
    """Every object that the marshalled code refers to, held so that its count of uses is up."""
    held: list[object] = [code.co_names, code.co_varnames, code.co_filename, code.co_name]
    for constant in code.co_consts:
        held.append(constant)
        if isinstance(constant, CodeType):
            held += everything_in(constant)
    return held


def test_the_same_code_is_the_same_bytes_whoever_holds_its_constants() -> None:
    code = compile(SOURCE, "/module.py", "exec")
    before = marshal.dumps(code)
    held = everything_in(code)
    after = marshal.dumps(code)
    assert held
    assert before != after, "the interpreter has become better than we expect; drop the rewriting"
    assert bytecode.normalise(before) == bytecode.normalise(after)


def test_processes_with_other_hash_seeds_and_modules_write_the_same_bytes() -> None:
    script = (
        "import sys, marshal{more}\n"
        "code = compile(sys.stdin.read(), '/module.py', 'exec')\n"
        "sys.stdout.buffer.write(marshal.dumps(code))"
    )
    texts: list[bytes] = []
    for seed, more in (("1", ""), ("2", ", json, decimal, email.message"), ("3", ", http.client")):
        done = subprocess.run(
            [sys.executable, "-c", script.format(more=more)],
            input=SOURCE.encode(),
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        texts.append(done.stdout)
    assert len({bytecode.normalise(text) for text in texts}) == 1


def test_what_was_rewritten_means_the_same() -> None:
    code = compile(SOURCE, "/module.py", "exec")
    again = marshal.loads(bytecode.normalise(marshal.dumps(code)))
    assert again == code
    space: dict[str, object] = {}
    exec(again, space)
    thing = space["Thing"]
    assert callable(thing)
    assert thing().method(alpha=6) == [7, 12, 14]
    assert space["TABLE"]["alpha"] == (1, 2.5, 3j, None, ..., b"bytes")  # type: ignore[index]


def test_every_module_of_the_standard_library_that_is_at_hand_survives() -> None:
    places = sorted(Path(random.__file__).parent.glob("*.py"))
    for path in random.Random(7).sample(places, 40):
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        text = bytecode.normalise(marshal.dumps(code))
        assert marshal.loads(text) == code, path
        assert bytecode.normalise(text) == text, path


def test_it_is_not_larger_than_the_interpreters() -> None:
    path = Path(random.__file__)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    assert len(bytecode.normalise(marshal.dumps(code))) <= len(marshal.dumps(code))


@given(st.integers(min_value=0, max_value=2000))
def test_a_cut_stream_is_refused_and_never_half_read(length: int) -> None:
    text = marshal.dumps(compile(SOURCE, "/module.py", "exec"))
    with pytest.raises((ValueError, IndexError)):
        bytecode.normalise(text[: min(length, len(text) - 1)])


def test_bytes_behind_the_object_are_refused() -> None:
    with pytest.raises(ValueError, match="follow"):
        bytecode.normalise(marshal.dumps(compile("1", "x", "exec")) + b"N")


def test_the_header_says_that_no_source_is_to_be_looked_for() -> None:
    assert bytecode.pyc_header(b"\xcb\r\r\n") == b"\xcb\r\r\n\x01\0\0\0" + bytes(8)
