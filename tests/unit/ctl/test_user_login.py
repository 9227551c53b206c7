# SPDX-License-Identifier: Apache-2.0
"""Being a user who is not the owner: logging in, staying logged in, keeping the two apart."""

import io
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl import contexts, credentials
from metropolis.ctl.contexts import Context
from metropolis.ctl.user_credentials import (
    create_user_key,
    is_renewal_due,
    user_certificate,
)
from metropolis.pki import certificates, keys
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import ENTROPY, Remote

SECRET = "AAAA-BBBB-CCCC"


def typing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def as_user(remote: Remote, directory: Path, *, age_days: float = 0, name: str = "ann") -> Context:
    """Return the context of somebody who logged in some time ago."""
    context = contexts.flat(directory)
    key = create_user_key(context, ENTROPY)
    credentials.store_ca(context, remote.authority.certificate)
    start = datetime.now(UTC) - timedelta(days=age_days)
    certificate = remote.issue_user(name, keys.raw_public_key(key), start)
    context.user_certificate_path.write_text(certificates.to_pem(certificate))
    return context


def flags_of(context: Context, remote: Remote) -> list[str]:
    return ["--config", str(context.directory), "--endpoints", remote.address]


def test_a_password_that_is_read_from_standard_input_logs_in(
    metroctl: Metroctl, remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.passwords["ann"] = SECRET
    context = contexts.flat(home / "ann")
    credentials.store_ca(context, remote.authority.certificate)
    typing(f" {SECRET} \n", monkeypatch)
    done = metroctl([*flags_of(context, remote), "user", "login", "ann"])
    assert (done.status, done.out) == (0, ""), done.err
    assert SECRET not in done.err
    certificate = user_certificate(context)
    assert certificate is not None
    assert certificate.name == "ann"
    assert stat.S_IMODE(context.user_key_path.stat().st_mode) == 0o600
    assert metroctl([*flags_of(context, remote), "node", "list"]).status == 0


def test_who_has_a_certificate_that_lasts_logs_in_without_a_password(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    context = as_user(remote, home / "ann", age_days=25)
    key = keys.from_pkcs8_pem(context.user_key_path.read_text())
    remote.user_keys.add(keys.raw_public_key(key))
    assert metroctl([*flags_of(context, remote), "user", "login", "ann"]).status == 0


@pytest.mark.parametrize(
    ("age_days", "is_due"), [(0, False), (19.9, False), (20.1, True), (29.9, True), (30.1, False)]
)
def test_a_certificate_is_renewed_in_its_last_ten_days(
    remote: Remote, home: Path, age_days: float, *, is_due: bool
) -> None:
    context = as_user(remote, home / "ann", age_days=age_days)
    assert is_renewal_due(context, datetime.now(UTC)) is is_due


def test_any_command_renews_a_certificate_that_ends_soon(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    context = as_user(remote, home / "ann", age_days=25)
    key = keys.from_pkcs8_pem(context.user_key_path.read_text())
    remote.user_keys.add(keys.raw_public_key(key))
    done = metroctl([*flags_of(context, remote), "node", "list"])
    assert done.status == 0
    assert done.err == "Your certificate was renewed.\n"
    assert not is_renewal_due(context, datetime.now(UTC))
    assert metroctl([*flags_of(context, remote), "node", "list"]).err == ""


def test_a_command_works_although_its_certificate_could_not_be_renewed(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    context = as_user(remote, home / "ann", age_days=25)
    done = metroctl([*flags_of(context, remote), "node", "list"])
    assert done.status == 0
    assert "Your certificate was not renewed: the cluster does not know this key" in done.err


def test_nobody_becomes_a_user_over_the_owners_keys(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "user", "login", "ann"])
    assert done.status == 1
    assert "--new-context" in done.err
    assert not remote.requests("Escrow")


def test_nobody_becomes_another_user_over_a_users_keys(
    metroctl: Metroctl, remote: Remote, home: Path
) -> None:
    context = as_user(remote, home / "ann")
    done = metroctl([*flags_of(context, remote), "user", "login", "bob"])
    assert done.status == 1
    assert "holds the key of user ann" in done.err


def test_an_owner_becomes_a_user_in_a_context_of_its_own(
    metroctl: Metroctl,
    remote: Remote,
    owner: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote.passwords["ann"] = SECRET
    typing(f"{SECRET}\n", monkeypatch)
    done = metroctl([*owner, "user", "login", "ann", "--new-context", "as-ann"])
    assert done.status == 0, done.err
    made = contexts.load(contexts.default_root(), "as-ann")
    assert made.endpoints == (remote.address,)
    assert user_certificate(made) is not None
    assert metroctl(["--context", "as-ann", "node", "list"]).status == 0


def test_endpoints_that_are_given_at_a_login_join_those_that_were_known(
    metroctl: Metroctl, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.passwords["ann"] = SECRET
    root = contexts.default_root()
    context = contexts.create(root, "work", endpoints=("10.1.0.9",))
    credentials.store_ca(context, remote.authority.certificate)
    flags = ["--context", "work", "--endpoints", remote.address]
    typing(f"{SECRET}\n", monkeypatch)
    done = metroctl([*flags, "user", "login", "ann"])
    assert done.status == 0, done.err
    both = ("10.1.0.9", remote.address)
    assert contexts.load(root, "work").endpoints == both
    assert f"Context work has these endpoints now: {', '.join(both)}." in done.err
    again = metroctl([*flags, "user", "login", "ann", "--new-context", "other"])
    assert contexts.load(root, "other").endpoints == both, again.err


def test_a_certificate_for_another_key_is_not_kept(
    metroctl: Metroctl, remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.passwords["ann"] = SECRET
    remote.emitted_key = keys.raw_public_key(keys.generate_key(ENTROPY))
    context = contexts.flat(home / "ann")
    credentials.store_ca(context, remote.authority.certificate)
    typing(f"{SECRET}\n", monkeypatch)
    done = metroctl([*flags_of(context, remote), "user", "login", "ann"])
    assert done.status == 1
    assert "another key or name" in done.err
    assert not context.user_certificate_path.exists()


def test_a_damaged_certificate_says_what_to_do(remote: Remote, home: Path) -> None:
    context = as_user(remote, home / "ann")
    context.user_certificate_path.write_text("nonsense")
    with pytest.raises(InvalidArgumentError) as caught:
        user_certificate(context)
    assert "metroctl user login" in caught.value.remedy
