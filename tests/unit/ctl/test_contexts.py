# SPDX-License-Identifier: Apache-2.0
"""Contexts: where keys are kept, and which cluster a command means."""

import stat
from pathlib import Path

import pytest

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.ctl import contexts, credentials, files
from metropolis.pki.keys import raw_public_key
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import ENTROPY


def test_a_context_comes_back_as_it_was_made(tmp_path: Path) -> None:
    made = contexts.create(
        tmp_path, "demo", endpoints=["10.1.0.2"], proxy="127.0.0.1:1080", cluster_domain="x.y"
    )
    assert contexts.load(tmp_path, "demo") == made
    assert contexts.names(tmp_path) == ["demo"]
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700


def test_keys_are_private_from_the_start_and_never_replaced(tmp_path: Path) -> None:
    context = contexts.create(tmp_path, "demo")
    key = credentials.create_owner_key(context, ENTROPY)
    assert stat.S_IMODE(context.owner_key_path.stat().st_mode) == 0o600
    again = credentials.create_owner_key(context, ENTROPY)
    assert raw_public_key(again) == raw_public_key(key)
    contexts.create(tmp_path, "demo", endpoints=["10.1.0.3"])
    assert raw_public_key(credentials.read_owner_key(context)) == raw_public_key(key)
    assert not files.create(context.owner_key_path, "other")
    assert [path.name for path in context.directory.iterdir() if path.name[0] == "."] == []


def test_selecting_and_removing_follow_each_other(tmp_path: Path) -> None:
    contexts.create(tmp_path, "demo")
    assert contexts.current_name(tmp_path) is None
    contexts.select(tmp_path, "demo")
    assert contexts.current_name(tmp_path) == "demo"
    contexts.remove(tmp_path, "demo")
    contexts.remove(tmp_path, "demo")
    assert contexts.current_name(tmp_path) is None
    assert not contexts.names(tmp_path)


def test_what_does_not_exist_suggests_the_nearest(tmp_path: Path) -> None:
    contexts.create(tmp_path, "production")
    with pytest.raises(NotFoundError) as caught:
        contexts.load(tmp_path, "prodution")
    assert caught.value.remedy == "Did you mean production?"
    with pytest.raises(NotFoundError):
        contexts.select(tmp_path, "demo")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a" * 65, "a\n"])
def test_names_never_leave_the_directory(tmp_path: Path, name: str) -> None:
    for act in (contexts.create, contexts.load, contexts.remove):
        with pytest.raises(InvalidArgumentError):
            act(tmp_path, name)


@pytest.mark.parametrize("text", ["[", "- a", "endpoints: x", "endpoints: [1]", "proxy: 5"])
def test_damaged_settings_are_an_error_with_a_remedy(tmp_path: Path, text: str) -> None:
    context = contexts.create(tmp_path, "demo")
    (context.directory / "context.yaml").write_text(text)
    with pytest.raises(DataLossError) as caught:
        contexts.load(tmp_path, "demo")
    assert "endpoints:" in caught.value.remedy


def test_damaged_pem_files_are_named(tmp_path: Path) -> None:
    context = contexts.create(tmp_path, "demo")
    context.owner_key_path.write_text("garbage")
    context.ca_path.write_text("garbage")
    for read in (credentials.read_owner_key, credentials.read_ca):
        with pytest.raises(InvalidArgumentError, match=r"demo/\S+\.pem: not exactly one PEM"):
            read(context)


def test_the_root_follows_the_environment() -> None:
    assert contexts.default_root({"XDG_CONFIG_HOME": "/x"}) == Path("/x/metroctl")
    assert contexts.default_root({"XDG_CONFIG_HOME": "x", "HOME": "/h"}) == Path(
        "/h/.config/metroctl"
    )
    with pytest.raises(FailedPreconditionError):
        contexts.default_root({})


def test_commands_list_show_use_and_remove(metroctl: Metroctl, home: Path) -> None:
    assert "There are no contexts." in metroctl(["context", "list"]).err
    root = home / "config" / "metroctl"
    contexts.create(root, "one", endpoints=["10.1.0.2"])
    contexts.create(root, "two")
    assert metroctl(["context", "use", "one"]).err == "The current context is one.\n"
    rows = metroctl(["context", "list"]).out.splitlines()
    assert [row.split()[0] for row in rows] == ["NAME", "one", "two"]
    assert rows[1].split()[1] == "yes"
    assert "10.1.0.2" in metroctl(["context", "show"]).out
    assert metroctl(["context", "use", "three"]).status == 1
    assert metroctl(["context", "remove", "one", "--yes"]).status == 0
    assert not (root / "contexts" / "one").exists()
    (root / "current-context").write_text("gone\n")
    done = metroctl(["node", "list"])
    assert "the current context 'gone' does not exist any more" in done.err
