# SPDX-License-Identifier: Apache-2.0
"""An operator at a terminal, with a home of their own."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kits.metal import KEYS, Replica, replica
from metropolis.ctl.metal.main import main
from metropolis.metal.access.role import Role
from metropolis.metal.seed import seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command did."""

    status: int
    out: str
    err: str


Metalctl = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without any context, and an environment that says nothing."""
    for name in [name for name in os.environ if name.startswith("METALCTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def metalctl(home: Path, capsys: pytest.CaptureFixture[str]) -> Metalctl:
    """Runs the program in this process."""
    assert home.is_dir()

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Outcome(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def served() -> Iterator[Replica]:
    """A control plane with the example in it; tests share it and clean up after themselves."""
    with replica() as metal:
        metal.run(seed)
        yield metal


@pytest.fixture
def admin(served: Replica, metalctl: Metalctl, monkeypatch: pytest.MonkeyPatch) -> Metalctl:
    """The program, signing as an administrator of the served control plane."""
    monkeypatch.setenv("METALCTL_API_URL", served.url)
    monkeypatch.setenv("METALCTL_HMAC", KEYS[Role.ADMIN].decode())
    return metalctl
