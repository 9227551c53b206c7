# SPDX-License-Identifier: Apache-2.0
"""What operators read and change about the cluster as a whole."""

import asyncio
import base64
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from metropolis.api import introspection_pb2
from metropolis.api import introspection_pb2 as wire
from metropolis.base.errors import (
    FailedPreconditionError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.ctl import contexts
from metropolis.ctl.explanation import blame
from metropolis.ctl.kubernetes_probe import Enabled, probe
from metropolis.pki import certificates, keys
from metropolis.pki.certificates import fingerprint, from_pem
from metropolis.pki.keys import from_pkcs8_pem, raw_public_key
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import ENTROPY, Remote, a_node

RULES = "kubernetes.node_labels_to_synchronize"


def test_a_field_is_set_with_what_was_read_before_and_can_be_cleared(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "cluster", "configure", "set", RULES, r"^a/.*$", "b"])
    assert (done.status, done.out, done.err) == (0, "", 'New value: "^a/.*$", "b"\n')
    (request,) = remote.requests("ConfigureCluster")
    assert request.base_config.HasField("kubernetes")
    assert request.base_config.cluster_domain == "cluster.internal"
    assert list(request.update_mask.paths) == [RULES]
    assert metroctl([*owner, "cluster", "configure", "get", RULES]).out == "^a/.*$\nb\n"
    assert metroctl([*owner, "cluster", "configure", "set", RULES]).err == "New value: \n"
    done = metroctl([*owner, "cluster", "configure", "get", RULES])
    assert (done.out, done.err) == ("", f"{RULES} is empty.\n")


@pytest.mark.parametrize("value", ["best-effort", "BEST_EFFORT", "TPM_MODE_BEST_EFFORT"])
def test_enums_are_understood_in_every_spelling(
    metroctl: Metroctl, owner: list[str], value: str
) -> None:
    assert metroctl([*owner, "cluster", "configure", "set", "tpm_mode", "required"]).status == 0
    done = metroctl([*owner, "cluster", "configure", "set", "tpm_mode", value])
    assert (done.status, done.err) == (0, 'New value: "best-effort"\n')
    assert metroctl([*owner, "cluster", "configure", "get", "tpm_mode"]).out == "best-effort\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tpm_mod", "required"], "Did you mean tpm_mode?"),
        (["tpm_mode", "requird"], "Did you mean required?"),
        (["tpm_mode"], "takes exactly one value"),
        (["tpm_mode", "invalid"], "is no value of tpm_mode"),
        ([RULES, "("], "is not a regular expression"),
        (["cluster_domain", "example.com"], "cannot be changed"),
    ],
)
def test_bad_configuration_never_reaches_the_cluster(
    metroctl: Metroctl, remote: Remote, owner: list[str], arguments: list[str], says: str
) -> None:
    done = metroctl([*owner, "cluster", "configure", "set", *arguments])
    assert done.status == 1
    assert says in done.err
    assert "remedy: " in done.err
    assert not remote.requests("ConfigureCluster")


def test_a_lost_race_is_told(metroctl: Metroctl, remote: Remote, owner: list[str]) -> None:
    remote.refusals["ConfigureCluster"] = FailedPreconditionError("changed", remedy="Retry.")
    done = metroctl([*owner, "cluster", "configure", "set", "tpm_mode", "required"])
    assert (done.status, done.err) == (1, "error: changed\nremedy: Retry.\n")


def test_the_cluster_shows_its_policies_and_fingerprint(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    text = metroctl([*owner, "cluster", "get"]).out
    assert "cluster.internal" in text
    assert fingerprint(remote.authority.certificate) in text
    assert f"{remote.own.id} {remote.address}" in text
    document = json.loads(metroctl([*owner, "cluster", "get", "-o", "json"]).out)
    assert document["cluster_configuration"]["tpm_mode"] == "TPM_MODE_BEST_EFFORT"


def test_the_ticket_goes_to_stdout_alone_and_to_private_files(
    metroctl: Metroctl, owner: list[str], tmp_path: Path
) -> None:
    done = metroctl([*owner, "cluster", "ticket", "--verbose"])
    ticket = base64.b64decode(done.out.strip())
    assert (done.status, len(ticket)) == (0, 34)
    assert done.out.strip() not in done.err
    assert bytes.fromhex(metroctl([*owner, "cluster", "ticket", "--hex"]).out) == ticket
    target = tmp_path / "ticket"
    metroctl([*owner, "cluster", "ticket", "--output-file", str(target)])
    assert base64.b64decode(target.read_text()) == ticket
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_certificates_are_exported_with_the_right_modes(
    metroctl: Metroctl, remote: Remote, owner: list[str], tmp_path: Path
) -> None:
    (tmp_path / "owner.key").write_text("old")
    (tmp_path / "owner.key").chmod(0o755)
    for spelling in ("cert", "certs"):
        done = metroctl([*owner, spelling, "export", "--directory", str(tmp_path)])
        assert done.status == 0
        assert "owner.crt and" in done.err
    modes = [stat.S_IMODE((tmp_path / f"owner.{x}").stat().st_mode) for x in ("crt", "key")]
    assert modes == [0o644, 0o600]
    key = from_pkcs8_pem((tmp_path / "owner.key").read_text())
    assert raw_public_key(key) == raw_public_key(remote.owner_key)
    from_pem((tmp_path / "owner.crt").read_text())


def test_kubectl_gets_the_credentials_in_one_line(metroctl: Metroctl, owner: list[str]) -> None:
    done = metroctl([*owner, "k8scredplugin"])
    assert done.out.count("\n") == 1
    answer = json.loads(done.out)
    assert answer["apiVersion"] == "client.authentication.k8s.io/v1"
    from_pkcs8_pem(answer["status"]["clientKeyData"])


def test_kubernetes_is_honest_about_not_being_there(
    metroctl: Metroctl, remote: Remote, owner: list[str], home: Path
) -> None:
    done = metroctl([*owner, "k8s", "configure"])
    assert done.status == 1
    assert "Kubernetes is not enabled yet; no kubeconfig was written" in done.err
    assert not (home / ".kube").exists()
    remote.is_kubernetes = True
    assert metroctl([*owner, "k8s", "configure"]).status == 0
    (home / ".kube" / "config").write_text("[damaged")
    done = metroctl([*owner, "k8s", "configure"])
    assert done.status == 1
    assert "is not a kubeconfig" in done.err
    assert (home / ".kube" / "config").read_text() == "[damaged"


def test_explain_blames_findings_then_failed_runnables(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.explanation.findings.add(
        code="A", summary="Sum.", remedy="Do.", severity=wire.Finding.SEVERITY_ERROR
    )
    state = wire.RunnableStatus
    for dn, what, reason in (
        ("root", state.STATE_HEALTHY, ""),
        ("root.role", state.STATE_NEW, ""),
        ("root.role.a", state.STATE_CANCELED, ""),
        ("root.role.b", state.STATE_DEAD, "boom"),
    ):
        entry = remote.tree.entries.add(dn=dn, state=what, reason=reason, restarts=2)
        entry.time_in_state.seconds = 60
    done = metroctl([*owner, "explain", remote.own.id])
    assert done.status == 0
    assert "error: Sum. [A]\n  Do.\n" in done.out
    blamed = [line.split()[0] for line in done.out.split("first:\n")[1].splitlines()]
    assert blamed == ["root.role.b", "root.role.a", "root.role"]
    assert "root.role.b failed for 60 s, 2 restarts: boom" in done.out
    document = json.loads(metroctl([*owner, "explain", remote.own.id, "-o", "json"]).out)
    assert (document["is_ready"], document["findings"][0]["code"]) == (False, "A")


def test_the_deepest_failure_is_blamed_first() -> None:
    dead, new = wire.RunnableStatus.STATE_DEAD, wire.RunnableStatus.STATE_NEW
    entries = [
        wire.RunnableStatus(dn="root.a", state=dead),
        wire.RunnableStatus(dn="root.a.b.c", state=dead),
        wire.RunnableStatus(dn="root.young", state=new),
        wire.RunnableStatus(dn="root.a.b", state=dead),
    ]
    assert [entry.dn for entry in blame(entries)] == ["root.a.b.c", "root.a.b", "root.a"]


def test_the_kubernetes_port_must_be_a_node_of_the_cluster(
    remote: Remote, owner: list[str], home: Path
) -> None:
    context = replace(contexts.flat(home / "keys"), endpoints=(owner[-1],))
    other = certificates.issue_cluster_ca(keys.generate_key(ENTROPY), serial=9)
    remote.is_kubernetes = True
    found = asyncio.run(probe(context, ca=remote.authority.certificate, timeout_s=9))
    assert found == Enabled(server_name=remote.own.id)
    with pytest.raises(UnauthenticatedError, match="not signed by cluster CA"):
        asyncio.run(probe(context, ca=other.certificate, timeout_s=9))


def test_a_linked_kubeconfig_keeps_its_link_and_its_other_contexts(
    metroctl: Metroctl, remote: Remote, owner: list[str], home: Path
) -> None:
    remote.is_kubernetes = True
    (home / ".kube").mkdir()
    (home / "real").write_text("current-context: other\ncontexts: [{name: other, context: {}}]\n")
    (home / ".kube" / "config").symlink_to(home / "real")
    assert metroctl([*owner, "k8s", "configure"]).status == 0
    assert (home / ".kube" / "config").is_symlink()
    document = yaml.safe_load((home / "real").read_text())
    assert document["current-context"] == "other"
    assert [each["name"] for each in document["contexts"]] == ["other", "metroctl"]


def test_explain_tells_what_a_node_finds_wrong_with_itself(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.tree.findings.add(
        code="DISK_FULL",
        summary="The disk is full.",
        remedy="Free space.",
        severity=introspection_pb2.Finding.SEVERITY_ERROR,
    )
    told = metroctl([*owner, "explain", remote.own.id]).out
    assert "error: The disk is full. [DISK_FULL]\n  Free space.\n" in told
    assert "Nothing keeps it" not in told


def test_explain_is_content_with_a_healthy_node_and_survives_a_silent_one(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    assert (
        "Nothing keeps it from doing its work." in metroctl([*owner, "explain", remote.own.id]).out
    )
    silent = remote.add(a_node(0xA1, address="127.99.99.99"))
    done = metroctl([*owner, "explain", silent.id])
    assert done.status == 0
    assert "warning: The node itself does not answer: cannot reach 127.99.99.99:7839" in done.out
    remote.refusals["ExplainNode"] = UnimplementedError("no", remedy="no")
    assert metroctl([*owner, "explain", remote.own.id]).status == 0


def test_consensus_says_what_it_can_stand(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    full = remote.members.EtcdMember.STATUS_FULL
    remote.own_member.members.add(is_leader=True, reachable=True, raft_index=7)
    for node in (remote.own, remote.add(a_node(0xA1, address="127.99.99.99")), a_node(0xA2)):
        remote.members.etcd_member.add(id=node.id, status=full)
    done = metroctl([*owner, "consensus", "status"])
    assert done.out.count("UNREACHABLE") == 2
    own = next(line for line in done.out.splitlines() if line.startswith(remote.own.id))
    assert own.split()[1:] == ["yes", "yes", "yes", "7"]
    assert "cannot reach 127.99.99.99:7839" in done.out
    assert "there is no such node" in done.out
    assert "Only 1 of 3 voting members can be reached and 2 are needed" in done.err
    del remote.members.etcd_member[1:]
    assert (
        "1 of 1 voting members can be reached; none more may fail"
        in metroctl([*owner, "consensus", "status"]).err
    )


def test_consensus_shows_a_learner_and_a_member_that_does_not_vote(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    learner = remote.members.EtcdMember.STATUS_LEARNER
    remote.members.etcd_member.add(id=remote.own.id, status=learner)
    done = metroctl([*owner, "consensus", "status"])
    assert "learner" in done.out
    assert "its member does not vote now" in done.out
