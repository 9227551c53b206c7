# SPDX-License-Identifier: Apache-2.0
"""Clusters of users who are not root, and what they are told where the kernel forbids them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.lab import somebody
from metropolis.lab.leftovers import find_processes
from metropolis.lab.state import ClusterDirectory

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that belongs to the user."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, somebody.USER, somebody.USER)
    return home


@pytest.fixture
def run(home: Path) -> Run:
    def run(program: str, *words: str, forbid: bool = False) -> subprocess.CompletedProcess[str]:
        flags = ["--forbid"] if forbid else []
        return subprocess.run(
            [sys.executable, somebody.__file__, *flags, BIN / program, *words],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "HOME": str(home),
                "DRIVER": "namespace",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


@pytest.mark.timeout(90)
def test_a_user_launches_stops_starts_and_destroys_a_cluster_without_root(
    home: Path, run: Run
) -> None:
    directory = ClusterDirectory(home / ".local/state/metropolis/clusters/own")
    try:
        done = run("metropolis", "launch", "--name", "own", "--nodes", "1", "--timeout", "40")
        assert done.returncode == 0, done.stderr
        assert "HEALTHY" in done.stdout
        owners = {path.stat().st_uid for path in directory.path.rglob("*")}
        assert owners == {somebody.USER}
        for process_id in find_processes(directory):
            assert Path(f"/proc/{process_id}").stat().st_uid == somebody.USER
        shown = run("metroctl", "node", "list")
        assert "HEALTHY" in shown.stdout, shown.stderr

        done = run("metropolis", "stop", "--name", "own")
        assert done.returncode == 0, done.stderr
        assert find_processes(directory) == []
        done = run("metropolis", "start", "--name", "own", "--timeout", "40")
        assert "HEALTHY" in done.stdout, done.stderr

        done = run("metropolis", "destroy", "--name", "own", "--yes")
        assert done.returncode == 0, done.stderr
        assert not directory.path.exists()
    finally:
        run("metropolis", "destroy", "--name", "own", "--yes")
    assert find_processes(directory) == []


def test_where_the_kernel_forbids_it_the_sysctl_is_named(home: Path, run: Run) -> None:
    done = run("metropolis", "launch", "--name", "own", "--nodes", "1", forbid=True)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: this machine does not let users create user namespaces\n"
        "remedy: Run `sudo sysctl -w user.max_user_namespaces=15000` once, "
        "or run the same command as root.\n"
    )
    assert home.is_dir()


def test_a_cluster_of_somebody_else_is_not_touched(home: Path, run: Run) -> None:
    foreign = home / ".local/state/metropolis/clusters/own"
    foreign.mkdir(parents=True)  # by root
    done = run("metropolis", "launch", "--name", "own", "--nodes", "1")
    assert done.returncode == 1
    assert f"belongs to user 0, and we run as user {somebody.USER}" in done.stderr
    assert "remedy: Run the same command as the user who launched the cluster." in done.stderr
