# SPDX-License-Identifier: Apache-2.0
"""The program `metropolis` as people use it, on real nodes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metropolis.lab.cluster import LabCluster
from metropolis.lab.leftovers import find_processes
from metropolis.lab.state import ClusterDirectory

BIN = Path(sys.executable).parent
LAUNCH_TIMEOUT_S = 55


@dataclass(frozen=True)
class Operator:
    """Somebody with a home of their own."""

    home: Path
    name: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "DRIVER": "namespace",
        }

    @property
    def cluster(self) -> LabCluster:
        return LabCluster(
            ClusterDirectory(self.home / "state" / "metropolis" / "clusters" / self.name)
        )

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / program, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LAUNCH_TIMEOUT_S,
            check=False,
        )

    def metropolis(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("metropolis", command, "--name", self.name, *words)

    def launch_and_kill_at(self, line: str) -> str:
        """Start a launch, kill it when it has said something, and return what it said."""
        said = ""
        with subprocess.Popen(
            [BIN / "metropolis", "launch", "--name", self.name],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for text in process.stderr:
                said += text
                if line in text:
                    break
            process.kill()
        return said


def healthy(table: str) -> list[str]:
    """Ids of the nodes that a table shows as HEALTHY."""
    return sorted(line.split()[0] for line in table.splitlines() if " HEALTHY " in line)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Runs a cluster of three nodes; every test leaves it HEALTHY."""
    made = Operator(tmp_path_factory.mktemp("home"), "trio")
    try:
        done = made.metropolis("launch", "--nodes", "3")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        done = made.metropolis("destroy", "--yes")
        assert done.returncode == 0, done.stderr
        assert find_processes(made.cluster.directory) == []
        assert [path for path in made.home.rglob("*") if made.name in path.name] == []


def test_a_launch_ends_with_three_healthy_voting_members_and_what_to_try_next(
    operator: Operator,
) -> None:
    again = operator.metropolis("launch")
    assert again.returncode == 0
    assert len(healthy(again.stdout)) == 3
    assert again.stdout.count("ConsensusMember,KubernetesController") == 3
    assert healthy(operator.run("metroctl", "node", "list").stdout) == healthy(again.stdout)
    assert "is running already" in again.stderr
    commands = again.stderr.partition("Try next:\n")[2].split("\n")[:3]
    assert [command.split()[0].rpartition("/")[2] for command in commands] == [
        "metroctl",
        "metroctl",
        "metropolis",
    ]
    members = json.loads(operator.run("metroctl", "consensus", "status", "-o", "json").stdout)
    assert len(members) == 3


def test_the_commands_to_try_next_work(operator: Operator) -> None:
    again = operator.metropolis("launch")
    for command in again.stderr.partition("Try next:\n")[2].split("\n")[:3]:
        program, *words = command.split()
        done = operator.run(program.rpartition("/")[2], *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_status_tells_machines_and_nodes_apart(operator: Operator) -> None:
    facts = json.loads(operator.metropolis("status", "-o", "json").stdout)
    assert (facts["running"], facts["launched"], facts["problem"]) == (True, True, None)
    assert [node["address"] for node in facts["nodes"]] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    assert {node["health"] for node in facts["nodes"]} == {"HEALTHY"}
    assert {node["power"] for node in facts["nodes"]} == {"on"}
    table = operator.metropolis("status").stdout
    assert sorted(line.split()[5] for line in table.splitlines()[1:]) == sorted(
        node["node_id"] for node in facts["nodes"]
    )


def test_a_stopped_cluster_leaves_no_process_and_starts_as_itself(operator: Operator) -> None:
    before = healthy(operator.metropolis("launch").stdout)
    stopped = operator.metropolis("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert find_processes(operator.cluster.directory) == []
    assert "is stopped" in operator.metropolis("status").stderr
    assert operator.metropolis("stop").returncode == 0
    started = operator.metropolis("start")
    assert started.returncode == 0, started.stderr
    assert healthy(started.stdout) == before
    assert len(before) == 3


def test_a_launch_after_the_keeper_was_killed_brings_the_same_cluster_back(
    operator: Operator,
) -> None:
    before = healthy(operator.metropolis("launch").stdout)
    os.kill(min(find_processes(operator.cluster.directory)), 9)
    done = operator.metropolis("launch")
    assert done.returncode == 0, done.stderr
    assert healthy(done.stdout) == before


def test_another_number_of_nodes_is_refused_with_what_to_do(operator: Operator) -> None:
    done = operator.metropolis("launch", "--nodes", "5")
    assert done.returncode == 1
    assert "error: cluster 'trio' exists and has 3 nodes, not 5" in done.stderr
    assert "remedy: " in done.stderr


def test_destroying_takes_a_word_of_consent(operator: Operator) -> None:
    done = operator.metropolis("destroy")
    assert done.returncode == 1
    assert "remedy: Add --yes" in done.stderr
    assert operator.cluster.is_running


def test_a_cluster_whose_context_name_is_taken_is_not_launched(
    operator: Operator, tmp_path: Path
) -> None:
    other = Operator(tmp_path, operator.name)
    other.home.joinpath("config").symlink_to(operator.home / "config")
    done = other.metropolis("launch", "--nodes", "1")
    assert done.returncode == 1
    assert "of another cluster" in done.stderr
    assert not other.cluster.is_running
    assert other.metropolis("destroy", "--yes").returncode == 0
    assert operator.run("metroctl", "node", "list").returncode == 0


def test_a_launch_killed_anywhere_goes_on_where_it_was(tmp_path: Path) -> None:
    operator = Operator(tmp_path, "phoenix")
    try:
        for line in (
            "starting cluster",
            "waiting for the API",
            "took ownership",
            "waiting for node 0 to report",
            "to register",
            "approved",
            "ConsensusMember",
        ):
            assert line in operator.launch_and_kill_at(line)
        done = operator.metropolis("launch")
        assert done.returncode == 0, done.stderr
        assert len(healthy(done.stdout)) == 3
        assert done.stdout.count("metropolis-") == 3
        assert done.stdout.count("ConsensusMember") == 3
    finally:
        assert operator.metropolis("destroy", "--yes").returncode == 0
        assert find_processes(operator.cluster.directory) == []
