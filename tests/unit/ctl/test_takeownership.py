# SPDX-License-Identifier: Apache-2.0
"""First contact: whom we trust, what is stored, what is said."""

import io
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metropolis.base.errors import UnauthenticatedError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, credentials
from metropolis.ctl.commands.takeownership import OWNED
from metropolis.pki import certificates, keys
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import ENTROPY, Remote

ACCEPT = "--insecure-accept-and-persist-first-encountered-ca"


def answer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_ownership_needs_the_exact_answer_yes_and_stores_what_it_got(
    metroctl: Metroctl, remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer("yes\n", monkeypatch)
    done = metroctl([*remote.unowned(home / "keys"), "cluster", "takeownership"])
    assert (done.status, done.out) == (0, "")
    assert certificates.fingerprint(remote.authority.certificate) in done.err
    assert remote.address in done.err
    assert f"{OWNED}\n" in done.err
    assert "Kubernetes is not enabled yet; so no kubeconfig was written." in done.err
    assert "You can now run kubectl" not in done.err
    context = contexts.flat(home / "keys")
    assert credentials.read_ca(context) == remote.authority.certificate
    credentials.check_issued(
        credentials.owner_credentials(context).certificate,
        ca=remote.authority.certificate,
        key=remote.owner_key,
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home / "keys").glob("*.pem")}
    assert modes["ca.pem"] == 0o600
    assert modes["owner.pem"] == 0o644
    assert not (home / ".kube").exists()


@pytest.mark.parametrize("text", ["no\n", "y\n", "YES\n", "", "yes please\n"])
def test_any_other_answer_rejects_the_ca_and_stores_nothing(
    metroctl: Metroctl, remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer(text, monkeypatch)
    done = metroctl([*remote.unowned(home / "keys"), "takeownership"])
    assert done.status == 1
    assert "error: cluster CA rejected by user" in done.err
    assert sorted(path.name for path in (home / "keys").iterdir()) == ["owner-key.pem"]
    assert not remote.requests("Escrow")


def test_the_flag_accepts_and_ownership_can_be_taken_again(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    flags = remote.unowned(home / "keys")[:2]
    for _ in range(2):
        done = metroctl([*flags, "takeownership", remote.address, ACCEPT])
        assert done.status == 0, done.err
    assert len(remote.requests("GetCACertificate")) == 1  # then it is pinned
    assert len(remote.requests("Escrow")) == 2


def test_a_node_of_another_cluster_is_refused_once_a_ca_is_pinned(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    flags = remote.unowned(home / "keys")
    other = certificates.issue_cluster_ca(keys.generate_key(ENTROPY), serial=9)
    credentials.store_ca(contexts.flat(home / "keys"), other.certificate)
    done = metroctl([*flags, "takeownership", "--timeout", "3"])
    assert done.status in (1, 2)
    assert "not signed by cluster CA" in done.err
    assert not remote.requests("Escrow")


def test_a_node_that_names_the_ca_of_another_is_refused_before_anybody_is_asked(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    other = certificates.issue_cluster_ca(keys.generate_key(ENTROPY), serial=9)
    remote.named_ca = other.certificate
    done = metroctl([*remote.unowned(home / "keys"), "takeownership", ACCEPT])
    assert done.status == 1
    assert "not signed by cluster CA" in done.err
    assert "fingerprint" not in done.err
    remote.named_ca = b"garbage"
    assert metroctl([*remote.unowned(home / "keys"), "takeownership", ACCEPT]).status == 1
    assert not (home / "keys" / "ca.pem").exists()


def test_a_certificate_for_another_key_is_not_kept(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    remote.emitted_key = bytes(range(32))
    done = metroctl([*remote.unowned(home / "keys"), "takeownership", ACCEPT])
    assert done.status == 1
    assert "a certificate for another key or name" in done.err
    assert not (home / "keys" / "owner.pem").exists()


def test_a_lost_ca_comes_back_unasked_if_it_signed_the_owner(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    flags = remote.owned(home / "keys")
    (home / "keys" / "ca.pem").unlink()
    done = metroctl([*flags, "node", "list"])
    assert (done.status, done.err) == (0, "")
    assert credentials.read_ca(contexts.flat(home / "keys")) == remote.authority.certificate
    (home / "keys" / "ca.pem").unlink()
    with Remote().running_at("127.99.99.96") as impostor:
        done = metroctl([*flags[:2], "--endpoints", impostor.address, "node", "list", ACCEPT])
    assert done.status == 1
    assert "not signed by cluster CA" in done.err
    assert not (home / "keys" / "ca.pem").exists()


def test_a_foreign_key_is_told_which_key_was_refused(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    flags = remote.unowned(home / "keys")
    foreign = keys.to_owner_pem(keys.generate_key(ENTROPY))
    (home / "keys" / "owner-key.pem").write_text(foreign)
    done = metroctl([*flags, "takeownership", ACCEPT])
    assert done.status == 1
    assert "owner-key.pem" in done.err
    assert "remedy: Name the context" in done.err
    assert not (home / "keys" / "owner.pem").exists()


def test_a_named_context_remembers_how_the_cluster_was_reached(
    metroctl: Metroctl, remote: Remote
) -> None:
    root = contexts.default_root()
    context = contexts.create(root, "demo")
    context.owner_key_path.write_text(keys.to_owner_pem(remote.owner_key))
    done = metroctl(["takeownership", remote.address, "--context", "demo", ACCEPT])
    assert done.status == 0, done.err
    assert contexts.load(root, "demo").endpoints == (remote.address,)
    contexts.create(root, "demo", endpoints=("10.1.0.9", remote.address))
    assert metroctl(["takeownership", remote.address, "--context", "demo"]).status == 0
    assert contexts.load(root, "demo").endpoints == ("10.1.0.9", remote.address)
    contexts.create(root, "demo", endpoints=(remote.address,))
    assert metroctl(["context", "use", "demo"]).status == 0
    assert remote.own.id in metroctl(["node", "list"]).out


def test_ownership_without_a_key_says_where_it_was_sought(metroctl: Metroctl, home: Path) -> None:
    done = metroctl(["--config", str(home / "none"), "takeownership", "127.0.0.1"])
    assert done.status == 1
    assert f"there is no owner key at {home / 'none' / 'owner-key.pem'}" in done.err


def test_a_machine_that_does_not_answer_yet_is_told_with_what_to_do_after_an_installation(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    flags = [*remote.unowned(home / "keys")[:2], "--timeout", "0.1"]
    address = f"127.98.{remote.address.partition('.')[2].partition('.')[2]}"  # no other test's
    with socket.socket() as silent:
        silent.bind((address, CURATOR_TCP_PORT))  # nobody accepts: a full queue stays silent
        silent.listen(0)
        with socket.create_connection(silent.getsockname()):
            done = metroctl([*flags, "takeownership", address])
    assert done.status == 2
    assert f"error: nobody answered at {address}:{CURATOR_TCP_PORT} within 0.1 s\n" in done.err
    assert "give the machine a minute or two more" in done.err
    refused = metroctl([*flags, "takeownership", address])
    assert f"error: cannot reach {address}" in refused.err
    assert "give the machine a minute or two more" in refused.err


def test_exactly_one_address_is_needed(metroctl: Metroctl, home: Path) -> None:
    flags = ["--config", str(home), "--endpoints", "10.0.0.3"]
    done = metroctl([*flags, "takeownership", "--endpoints", "10.0.0.1,10.0.0.2"])
    assert done.status == 1
    assert "exactly one address is needed to take ownership, not 3" in done.err


def test_a_certificate_of_another_user_is_not_the_owners(remote: Remote) -> None:
    public_key = keys.raw_public_key(remote.owner_key)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    other = certificates.issue_user(
        remote.authority,
        public_key,
        identity="eve",
        serial=5,
        validity=certificates.user_validity(now),
    )
    ca = remote.authority.certificate
    with pytest.raises(UnauthenticatedError):
        credentials.check_issued(other, ca=ca, key=remote.owner_key)


def test_kubectl_is_set_up_where_kubernetes_answers(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    remote.is_kubernetes = True
    done = metroctl([*remote.unowned(home / "keys"), "takeownership", ACCEPT])
    assert done.status == 0, done.err
    assert "You can now run kubectl --context=metroctl ..." in done.err
    text = (home / ".kube" / "config").read_text()
    assert f"https://{remote.address}:6444" in text
    assert f"tls-server-name: {remote.own.id}" in text
