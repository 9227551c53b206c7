# SPDX-License-Identifier: Apache-2.0
"""Tables and texts, against what is written down in tests/golden/ctl."""

from pathlib import Path

import pytest

from metropolis.api import common_pb2, introspection_pb2, version_pb2
from metropolis.api.management_pb2 import Node
from metropolis.ctl import explanation, tables
from metropolis.ctl.text_table import render
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import a_node

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ctl"
Git = version_pb2.Version.GitInformation


def nodes() -> list[Node]:
    """One that waits, one that works, one that fell silent."""
    new = a_node(0xBB, state=common_pb2.NODE_STATE_NEW)
    up = a_node(0x84, address="10.1.0.2")
    up.roles.consensus_member.SetInParent()
    up.roles.kubernetes_controller.SetInParent()
    up.tpm_usage = common_pb2.NODE_TPM_USAGE_PRESENT_AND_USED
    up.labels.pairs.add(key="a", value="b")
    up.status.version.git_information.commit_hash = "0123456789abcdef"
    up.status.version.git_information.commits_since_release = 7
    up.status.version.git_information.build_tree_state = Git.BUILD_TREE_STATE_DIRTY
    silent = a_node(0x90, address="10.1.0.3")
    silent.health = Node.HEALTH_HEARTBEAT_TIMEOUT
    silent.time_since_heartbeat.seconds = 93
    silent.roles.kubernetes_worker.SetInParent()
    silent.tpm_usage = common_pb2.NODE_TPM_USAGE_PRESENT_BUT_UNUSED
    return [new, up, silent]


def sick() -> explanation.Explanation:
    entry = introspection_pb2.RunnableStatus(
        dn="root.role.control_plane",
        state=introspection_pb2.RunnableStatus.STATE_DEAD,
        reason="cannot listen on 10.1.0.3:7835",
        restarts=4,
    )
    entry.time_in_state.seconds = 2
    entry.backoff_remaining.seconds = 1
    finding = introspection_pb2.Finding(
        code="HEARTBEAT_TIMEOUT",
        summary="No heartbeat was heard for 93 s.",
        remedy="Check that the machine is on.",
        severity=introspection_pb2.Finding.SEVERITY_ERROR,
    )
    return explanation.Explanation(node=nodes()[2], findings=[finding], runnables=[entry])


def transcripts(metroctl: Metroctl) -> dict[str, str]:
    return {
        "help": metroctl(["--help"]).out,
        "help_node": metroctl(["node", "--help"]).out,
        "help_node_logs": metroctl(["node", "logs", "--help"]).out,
        "help_takeownership": metroctl(["takeownership", "--help"]).out,
        "node_list": tables.render_nodes(nodes()),
        "node_describe": tables.render_nodes(nodes(), tables.NODE_COLUMNS),
        "explain": explanation.text_of(sick()),
    }


NAMES = (
    "help",
    "help_node",
    "help_node_logs",
    "help_takeownership",
    "node_list",
    "node_describe",
    "explain",
)


@pytest.mark.parametrize("name", NAMES)
def test_what_people_read_is_what_was_written_down(
    name: str, metroctl: Metroctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert transcripts(metroctl)[name] == (GOLDEN / f"{name}.txt").read_text()


def test_columns_do_not_depend_on_what_is_in_them() -> None:
    first, last = nodes()[0], nodes()[1]
    headers = [
        tables.render_nodes(order, tables.NODE_COLUMNS).splitlines()[0].split("  ")
        for order in ([first, last], [last, first])
    ]
    assert headers[0] == headers[1]


def test_numbers_of_a_newer_cluster_are_shown_as_they_are() -> None:
    node = a_node(1)
    node.ParseFromString(node.SerializeToString() + bytes((0x10, 99, 0x28, 77)))
    row = tables.render_nodes([node]).splitlines()[1].split()
    assert (row[1], row[3]) == ("99", "77")


def test_colour_adds_no_width() -> None:
    plain = render(["a", "b"], [["UP", "x"]])
    painted = render(["a", "b"], [["UP", "x"]], paint=lambda cell: f"<{cell}>")
    assert painted.splitlines()[1] == plain.splitlines()[1].replace("UP", "<UP>").replace(
        "x", "<x>"
    )


def test_versions_read_as_upstream_prints_them() -> None:
    version = version_pb2.Version()
    version.release.minor = 1
    assert tables.version_text(version) == "0.1.0-nostamp"
    version.git_information.commit_hash = "0123456789"
    version.git_information.build_tree_state = Git.BUILD_TREE_STATE_CLEAN
    assert tables.version_text(version) == "0.1.0-g01234567"
