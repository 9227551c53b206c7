# SPDX-License-Identifier: Apache-2.0
"""What operators do to nodes, and what they read about them."""

import io
import json
from pathlib import Path

import pytest
import yaml

from metropolis.api import common_pb2, logtree_pb2, management_pb2
from metropolis.base.errors import (
    FailedPreconditionError,
    UnavailableError,
)
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote, a_log_entry, a_node

NEW = common_pb2.NODE_STATE_NEW


def test_nobody_waits_is_a_sentence_and_no_data(metroctl: Metroctl, owner: list[str]) -> None:
    done = metroctl([*owner, "approve"])
    assert (done.status, done.out) == (0, "")
    assert done.err == "There are no nodes pending approval at this time.\n"
    assert json.loads(metroctl([*owner, "approve", "-o", "json"]).out) == []


def test_waiting_nodes_are_ids_on_stdout(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    first, second = remote.add(a_node(0xB1, state=NEW)), remote.add(a_node(0xA1, state=NEW))
    done = metroctl([*owner, "approve"])
    assert (done.status, done.out, done.err) == (0, f"{second.id}\n{first.id}\n", "")


@pytest.mark.parametrize("spelling", [["approve"], ["node", "approve"]])
def test_a_node_is_approved_by_its_key(
    metroctl: Metroctl, remote: Remote, owner: list[str], spelling: list[str]
) -> None:
    node = remote.add(a_node(0xB1, state=NEW))
    done = metroctl([*owner, *spelling, node.id])
    assert (done.status, done.out, done.err) == (0, "", f"Approved node {node.id}.\n")
    assert [request.pubkey for request in remote.requests("ApproveNode")] == [node.pubkey]


def test_only_waiting_nodes_can_be_approved(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "approve", remote.own.id])
    assert done.status == 1
    assert f"couldn't find a new node matching id {remote.own.id}" in done.err
    assert "was approved already" in done.err
    done = metroctl([*owner, "approve", "metropolis-0123"])
    assert done.status == 1
    assert "error: couldn't find a new node matching id metropolis-0123\nremedy: Run" in done.err
    assert not remote.requests("ApproveNode")


def test_a_unique_beginning_names_a_node_and_another_lists_the_candidates(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    nodes = [remote.add(a_node(number, state=NEW)) for number in (0xA1, 0xA2)]
    assert metroctl([*owner, "approve", "a1"]).err == f"Approved node {nodes[0].id}.\n"
    assert metroctl([*owner, "approve", "metropolis-A2"]).status == 0
    done = metroctl([*owner, "approve", "a"])
    assert done.status == 1
    assert f"begins the ids of 2 nodes: {nodes[0].id}, {nodes[1].id}" in done.err
    assert remote.own.id in metroctl([*owner, "node", "list", remote.address]).out
    done = metroctl([*owner, "node", "list", "f" * 32])
    assert done.status == 1
    assert "error: no such node" in done.err


def test_a_mistyped_id_suggests_the_nearest(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    wrong = remote.own.id[:-1] + ("0" if remote.own.id[-1] != "0" else "1")
    done = metroctl([*owner, "explain", wrong])
    assert done.status == 1
    assert f"remedy: Did you mean {remote.own.id}?" in done.err


def test_flags_may_stand_before_and_after_the_command(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    orders = (
        [*owner, "node", "list", "-o", "json"],
        ["node", *owner, "-o", "json", "list"],
        ["node", "list", "--output=json", *owner],
        [*owner, "-o", "yaml", "node", "list", "--format", "json"],
    )
    for order in orders:
        (found,) = json.loads(metroctl(order).out)
        assert found["id"] == remote.own.id


def test_documents_have_the_api_names_and_never_is_null(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.add(a_node(0xFF, state=NEW))
    up, new = json.loads(metroctl([*owner, "node", "describe", "-o", "json"]).out)
    up, new = (up, new) if up["state"] == "NODE_STATE_UP" else (new, up)
    assert up["status"]["external_address"] == remote.address
    assert up["time_since_heartbeat"] == "3s"
    assert up["health"] == "HEALTH_HEALTHY"
    assert new["time_since_heartbeat"] is None
    document = yaml.safe_load(metroctl([*owner, "node", "list", "-o", "yaml"]).out)
    assert {each["id"] for each in document} == set(remote.nodes)


def test_the_table_may_go_to_a_file_with_chosen_columns(
    metroctl: Metroctl, remote: Remote, owner: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "nodes.txt"
    columns = ["--columns", "node id,state", "--output-file", str(target)]
    done = metroctl([*owner, "node", "describe", "all", *columns])
    assert (done.status, done.out) == (0, "")
    header, row = target.read_text().splitlines()
    assert header == f"{'NODE ID':<46}STATE"
    assert row == f"{remote.own.id:<46}UP"


def test_an_unknown_column_or_format_names_the_nearest(
    metroctl: Metroctl, owner: list[str]
) -> None:
    done = metroctl([*owner, "node", "describe", "--columns", "staet"])
    assert (done.status, done.err) == (
        1,
        "error: there is no column 'staet'\nremedy: Did you mean STATE?\n",
    )
    done = metroctl([*owner, "node", "list", "-o", "out.txt"])
    assert done.status == 1
    assert "use --output-file" in done.err


def test_a_filter_reaches_the_cluster_and_its_error_reaches_the_operator(
    metroctl: Metroctl, owner: list[str]
) -> None:
    done = metroctl([*owner, "node", "list", "--filter", "node.state == NODE_STATE_NEW"])
    assert (done.status, done.out, done.err) == (0, "", "No node matches.\n")
    done = metroctl([*owner, "--filter", "nonsense", "node", "list"])
    assert (done.status, done.err) == (1, "error: not an expression\nremedy: Write CEL.\n")


@pytest.mark.parametrize("spelling", ["cm", "ConsensusMember", "consensusmember"])
def test_roles_are_given_by_any_of_their_names(
    metroctl: Metroctl, remote: Remote, owner: list[str], spelling: str
) -> None:
    done = metroctl([*owner, "node", "add", "role", spelling, remote.own.id])
    assert (done.status, done.err) == (0, f"Updated node {remote.own.id}.\n")
    (request,) = remote.requests("UpdateNodeRoles")
    assert request.consensus_member is True
    assert not request.HasField("kubernetes_worker")
    assert metroctl([*owner, "node", "remove", "role", "kw", remote.own.id]).status == 0
    assert remote.requests("UpdateNodeRoles")[1].HasField("kubernetes_worker")
    assert remote.requests("UpdateNodeRoles")[1].kubernetes_worker is False


def test_a_refused_role_is_told_per_node_and_by_the_exit_status(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    other = remote.add(a_node(0xA1))
    remote.refusals["UpdateNodeRoles"] = FailedPreconditionError("no", remedy="Do this.")
    done = metroctl([*owner, "node", "add", "role", "kc", remote.own.id, other.id])
    assert done.status == 1
    assert f'Couldn\'t update node "{remote.own.id}": no\n' in done.err
    assert f'Couldn\'t update node "{other.id}": no\n' in done.err
    assert done.err.endswith("error: 2 nodes were not updated: no\nremedy: Do this.\n")
    remote.refusals["UpdateNodeRoles"] = UnavailableError("not now", remedy="Wait.")
    assert metroctl([*owner, "node", "add", "role", "kc", remote.own.id]).status == 2


def test_one_wrong_id_changes_nothing(metroctl: Metroctl, remote: Remote, owner: list[str]) -> None:
    done = metroctl([*owner, "node", "add", "role", "kc", remote.own.id, "metropolis-ffff"])
    assert done.status == 1
    assert not remote.requests("UpdateNodeRoles")


def test_an_unknown_role_is_answered_without_asking_the_cluster(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "node", "add", "role", "KubernetesWorkr", remote.own.id])
    assert done.status == 1
    assert "Did you mean KubernetesWorker?" in done.err
    assert not remote.calls


def test_labels_are_set_and_deleted_in_one_step(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    changes = ["zone=a", "example.com/rack=", "old-"]
    done = metroctl([*owner, "node", "set", "labels", remote.own.id, *changes])
    assert (done.status, done.err) == (0, f"Updated node {remote.own.id}.\n")
    (request,) = remote.requests("UpdateNodeLabels")
    pairs = [(pair.key, pair.value) for pair in request.upsert]
    assert pairs == [("zone", "a"), ("example.com/rack", "")]
    assert list(request.delete) == ["old"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["zone"], "changes nothing"),
        (["-zone=a"], "there is no option"),
        (["zone=a", "zone-"], "changed twice"),
        (["a b=c"], "the label key 'a b'"),
        (["zone=a/b"], "the value of the label zone"),
    ],
)
def test_bad_labels_never_reach_the_cluster(
    metroctl: Metroctl, remote: Remote, owner: list[str], changes: list[str], says: str
) -> None:
    done = metroctl([*owner, "node", "set", "labels", remote.own.id, *changes])
    assert done.status == 1
    assert says in done.err
    assert "remedy: " in done.err
    assert not remote.calls


def test_deleting_needs_consent_and_passes_the_bypasses_on(
    metroctl: Metroctl, remote: Remote, owner: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = metroctl([*owner, "node", "delete", remote.own.id])
    assert (done.status, remote.requests("DeleteNode")) == (1, [])
    assert done.err.endswith("remedy: Add --yes.\n")
    bypass = ["--yes", "--bypass-has-roles"]
    done = metroctl([*owner, "node", "delete", remote.own.id, *bypass])
    assert done.status == 0
    assert f"deleting node: {remote.own.id} ({remote.address})\n" in done.err
    (request,) = remote.requests("DeleteNode")
    assert request.HasField("safety_bypass_has_roles")
    assert not request.HasField("safety_bypass_not_decommissioned")


def test_power_says_why_not(metroctl: Metroctl, remote: Remote, owner: list[str]) -> None:
    done = metroctl([*owner, "node", "reboot", remote.own.id])
    assert (done.status, done.err) == (
        1,
        "error: cannot reboot: it has no image\nremedy: Restart the lab.\n",
    )
    done = metroctl([*owner, "node", "reboot", "--kexec", "--firmware", remote.own.id])
    assert "--firmware and --kexec exclude each other" in done.err


def test_an_update_ends_when_the_node_booted_anew(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    image = f"registry.example/metropolis:v1@sha256:{'0' * 64}"
    done = metroctl([*owner, "node", "update", "all", "--image-ref", image])
    assert done.status == 0, done.err
    assert f"node {remote.own.id} updated in 0s to version 0.1.0-nostamp\n" in done.err
    done = metroctl([*owner, "node", "update", "all", "--image-ref", "registry.example/x:v1"])
    assert done.status == 1
    assert "by its digest" in done.err


def test_logs_have_the_text_form_and_the_banners_are_talk(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    raw = logtree_pb2.LogEntry(
        dn="root.time", raw=logtree_pb2.LogEntry.Raw(data="tick", original_length=4)
    )
    bad = logtree_pb2.LogEntry(dn="", raw=logtree_pb2.LogEntry.Raw(data="xx", original_length=1))
    remote.backlog = [a_log_entry("Mounting"), raw, bad]
    remote.stream = [a_log_entry("Mounted")]
    done = metroctl([*owner, "node", "logs", remote.own.id])
    assert done.status == 0
    assert done.out == (
        "root.enrolment                   "
        "I0228 13:30:45.996960 cluster_bootstrap.py:48] Mounting\n"
        "root.time                        R tick\n"
    )
    assert done.err.splitlines() == [
        f"=== Logs from {remote.own.id} ({remote.address}):",
        "invalid stream entry: it is longer than its original length",
        "=== Done.",
    ]
    followed = metroctl([*owner, "node", "logs", remote.own.id, "-f", "-c"])
    assert followed.out.splitlines()[-1].split() == ["enrolment", "I", "Mounted"]
    lines = metroctl([*owner, "node", "logs", remote.own.id, "-o", "json"]).out.splitlines()
    assert json.loads(lines[0])["leveled"]["lines"] == ["Mounting"]


def test_log_flags_become_the_request(metroctl: Metroctl, remote: Remote, owner: list[str]) -> None:
    flags = ["--dn", "root.role", "-e", "-f", "--backlog", "5", "--severity", "E", "--leveled"]
    assert metroctl([*owner, "node", "logs", remote.own.id, *flags]).status == 0
    (request,) = remote.requests("Logs")
    kind = management_pb2.LogsRequest
    assert (request.dn, request.backlog_mode, request.backlog_count, request.stream_mode) == (
        "root.role",
        kind.BACKLOG_MODE_COUNT,
        5,
        kind.STREAM_MODE_UNBUFFERED,
    )
    kinds = [each.WhichOneof("filter") for each in request.filters]
    assert kinds == ["only_leveled", "leveled_with_minimum_severity"]
    assert metroctl([*owner, "node", "logs", remote.own.id, "--backlog", "0"]).status == 0
    assert remote.requests("Logs")[1].backlog_mode == kind.BACKLOG_MODE_DISABLE
    assert [f.WhichOneof("filter") for f in remote.requests("Logs")[1].filters] == ["with_children"]
    done = metroctl([*owner, "node", "logs", remote.own.id, "--raw", "--severity", "error"])
    assert done.status == 1
    done = metroctl([*owner, "node", "logs", remote.own.id, "--severity", "eror"])
    assert "Did you mean error?" in done.err


def test_another_node_at_the_address_of_the_wanted_one_is_refused(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    imagined = remote.add(a_node(0xA1, address=remote.address))
    done = metroctl([*owner, "node", "logs", imagined.id])
    assert done.status == 1
    assert f"the server is node {remote.own.id}, not {imagined.id}" in done.err
    assert not remote.requests("Logs")


def test_logs_of_a_node_without_an_address_say_so(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    node = remote.add(a_node(0xA1, state=NEW))
    done = metroctl([*owner, "node", "logs", node.id])
    assert done.status == 1
    assert "has no external address" in done.err
    assert f"remedy: Run `metroctl explain {node.id}`" in done.err
