# SPDX-License-Identifier: Apache-2.0
"""tools/mutants.py breaks what it says, notices what tests notice, and touches no file."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULE = '''"""A docstring with 1 number."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Limit:
    most: int = 7

    def admits(self, count: int) -> bool:
        assert count >= 0
        return count < self.most
'''
GOOD = """
from small.limits import Limit

def test_the_limit_is_not_admitted():
    assert Limit().admits(6) and not Limit().admits(7)
"""
LAZY = """
from small.limits import Limit

def test_nothing():
    assert Limit().admits(0)
"""


@pytest.mark.parametrize(
    ("tests", "said", "status"),
    [
        pytest.param(GOOD, "small.limits: 4 mutants, 4 tried, 0 survived\n", 0, id="good tests"),
        pytest.param(
            LAZY,
            "  survived  line 6: 7 => 8\n"
            "  survived  line 6: 7 => 6\n"
            "  survived  line 10: count < self.most => count <= self.most\n"
            "small.limits: 4 mutants, 4 tried, 3 survived\n",
            0,
            id="lazy tests",
        ),
        pytest.param("def test_a(): assert 0", "", 1, id="tests that fail anyway"),
    ],
)
def test_mutants_that_survive_are_named(tmp_path: Path, tests: str, said: str, status: int) -> None:
    module = tmp_path / "src" / "small" / "limits.py"
    module.parent.mkdir(parents=True)
    module.write_text(MODULE)
    (tmp_path / "test_limits.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = src\n")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "mutants.py", "src/small/limits.py", "test_limits.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.returncode) == (said, status), done.stderr
    assert module.read_text() == MODULE
