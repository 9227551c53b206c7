# SPDX-License-Identifier: Apache-2.0
"""An operator at a terminal, with a home of their own, and a cluster at the other end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from metropolis.ctl.metroctl import main
from unit.ctl.remote import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command did."""

    status: int
    out: str
    err: str


Metroctl = Callable[[Sequence[str]], Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without any context."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


@pytest.fixture
def metroctl(home: Path, capsys: pytest.CaptureFixture[str]) -> Metroctl:
    """Runs the program in this process."""
    assert home.is_dir()

    def run(arguments: Sequence[str]) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Outcome(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def remote() -> Iterator[Remote]:
    """A running cluster."""
    with Remote().running() as remote:
        yield remote


@pytest.fixture
def owner(remote: Remote, home: Path) -> list[str]:
    """Flags of its owner."""
    return remote.owned(home / "keys")
