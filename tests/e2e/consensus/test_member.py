# SPDX-License-Identifier: Apache-2.0
"""The life of real etcd members, each scenario in namespaces of its own. See scenarios.py."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).with_name("scenarios.py")
TIMEOUT_S = 150


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path so short that a socket fits below it."""
    with tempfile.TemporaryDirectory(prefix="etcd-") as path:
        yield Path(path)


def run(scenario: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, SCENARIOS, scenario, directory],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def check(scenario: str, directory: Path) -> str:
    done = run(scenario, directory)
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


@pytest.mark.timeout(TIMEOUT_S)
def test_one_member_comes_back_from_its_disk_however_it_is_started(directory: Path) -> None:
    check("one_member_restarts", directory)


@pytest.mark.timeout(TIMEOUT_S)
def test_learners_are_promoted_and_a_removed_member_is_refused(directory: Path) -> None:
    check("three_members_live_on_without_one", directory)


@pytest.mark.timeout(TIMEOUT_S)
def test_the_data_of_another_cluster_or_node_is_left_alone(directory: Path) -> None:
    check("a_foreign_disk_is_refused", directory)


@pytest.mark.timeout(TIMEOUT_S)
def test_lost_data_is_not_replaced_by_an_empty_consensus(directory: Path) -> None:
    check("lost_data_is_not_replaced_by_an_empty_consensus", directory)


@pytest.mark.timeout(TIMEOUT_S)
def test_a_bootstrap_killed_at_every_step_completes_and_founds_one_consensus(
    directory: Path,
) -> None:
    # Each run finds what the one before it left. Files in the order of their writing: list of
    # refused peers, key, certificate, CA, record; what is there already is not written again.
    for write in (1, 2, 3, 3, 3):
        done = run("bootstrap_once", directory, KILL_AT_WRITE=str(write))
        assert done.returncode == -signal.SIGKILL, done.stdout[-20_000:]
    assert (directory / "n1/storage/etcd/data/member/wal").exists()
    assert not (directory / "n1/storage/etcd/member.json").exists()
    for _ in range(4):
        done = run("bootstrap_once", directory, KILL_AT_LOG="")
        assert done.returncode == -signal.SIGKILL, done.stdout[-20_000:]
    first = check("bootstrap_once", directory)
    assert first.startswith("FOUNDED ")
    assert check("bootstrap_once", directory) == first
