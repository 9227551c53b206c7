# SPDX-License-Identifier: Apache-2.0
"""The story of the handbook's demo on nodes that are processes: own, add a machine, operate."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.ctl.operator import FIRST_ADDRESS, SECOND_ADDRESS, Operator, two_machines
from metropolis.pki.certificates import fingerprint

OWNED = "Successfully retrieved owner credentials! You now own this cluster.\n"
NOBODY = "There are no nodes pending approval at this time.\n"


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with two_machines(tmp_path) as operator:
        yield operator


@pytest.mark.timeout(240)  # twenty programs, one after the other, on a machine that may be busy
def test_owning_adding_and_operating_as_in_the_demo(operator: Operator) -> None:
    # Taking ownership of the new cluster
    taken = operator.wait(
        ["takeownership", FIRST_ADDRESS, "--insecure-accept-and-persist-first-encountered-ca"],
        until=lambda outcome: outcome.status != 2,
    )
    assert taken.status == 0, taken.err
    assert fingerprint(operator.ca_on_disk) in taken.err
    assert OWNED in taken.err
    assert "Kubernetes is not enabled yet" in taken.err

    # Additional nodes
    operator.flags += ["--endpoints", FIRST_ADDRESS]
    assert operator.metroctl("approve").err == NOBODY
    ticket = operator.metroctl("cluster", "ticket").out.strip()
    operator.switch_on_second_machine(ticket)
    waiting = operator.wait(["approve"], until=lambda outcome: bool(outcome.out))
    new_id = waiting.out.strip()
    assert operator.metroctl("approve", new_id).err == f"Approved node {new_id}.\n"
    assert operator.metroctl("approve").err == NOBODY

    # Using the cluster
    found = json.loads(
        operator.wait(
            ["node", "list", "-o", "json"],
            until=lambda outcome: (
                outcome.out.count('"HEALTH_HEALTHY"') == 2
                and outcome.out.count('"external_address"') == 2
            ),
        ).out
    )
    addresses = {node["status"]["external_address"] for node in found}
    assert addresses == {FIRST_ADDRESS, SECOND_ADDRESS}

    _roles_and_labels(operator, new_id)
    _logs_and_explanations(operator, new_id)
    _refusals(operator, new_id)


def _roles_and_labels(operator: Operator, new_id: str) -> None:
    operator.wait(
        ["node", "add", "role", "ConsensusMember", new_id],
        until=lambda outcome: outcome.status == 0,
    )
    operator.wait(
        ["consensus", "status"], until=lambda outcome: outcome.err.startswith("2 of 2 voting")
    )
    assert operator.metroctl("node", "set", "labels", new_id, "rack=7").status == 0
    described = operator.metroctl("node", "describe", new_id).out.splitlines()
    assert described[0].split()[:3] == ["NODE", "ID", "STATE"]
    assert described[1].split()[:4] == [new_id, "UP", SECOND_ADDRESS, "HEALTHY"]
    assert described[1].endswith("rack:7")
    # Any one node's address leads to the leader, wherever that is.
    assert operator.metroctl("--endpoints", SECOND_ADDRESS, "node", "list").status == 0


def _logs_and_explanations(operator: Operator, new_id: str) -> None:
    logs = operator.metroctl("node", "logs", new_id)
    assert "Cluster enrolment done." in logs.out
    assert logs.err.startswith(f"=== Logs from {new_id} ({SECOND_ADDRESS}):\n")
    narrowed = operator.metroctl("node", "logs", new_id, "--dn", "root.enrolment", "--exact").out
    assert narrowed
    assert all(line.startswith("root.enrolment ") for line in narrowed.splitlines())
    explained = operator.metroctl("explain", new_id)
    assert explained.status == 0
    assert f"Node {new_id} is UP and HEALTHY\n" in explained.out


def _refusals(operator: Operator, new_id: str) -> None:
    for arguments, says in (
        (["node", "delete", new_id, "--yes"], "still has the role"),
        (["node", "reboot", new_id], "boots no system image"),
        (["node", "list", "--filter", "nonsense("], "filter: "),
    ):
        done = operator.metroctl(*arguments)
        assert done.status == 1, done
        assert says in done.err
        assert "remedy: " in done.err
