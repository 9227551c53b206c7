# SPDX-License-Identifier: Apache-2.0
"""Contexts, environment and flags: which API is called, and as whom."""

import base64
from pathlib import Path

import pytest
import yaml

from metropolis.base.errors import DataLossError, InvalidArgumentError, NotFoundError
from metropolis.ctl.metal.configuration import MetalContext, context_of
from metropolis.ctl.metal.session import access_of
from metropolis.ctl.metal.settings import MetalSettings
from metropolis.ctl.metal.token_store import keep_token, read_token
from unit.ctl.metal.conftest import Metalctl

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
CONTEXTS = {
    "current": "lab",
    "previous": "prod",
    "contexts": {
        "lab": {"url": "http://lab", "hmac": "lab-key", "hmac_auth_type": "Metal-Edit"},
        "prod": {
            "url": "https://prod/metal",
            "issuer_url": "https://dex",
            "client_id": "metal",
            "client_secret": "sesame",
            "certificate_authority_data": base64.b64encode(PEM.encode()).decode(),
        },
    },
}


@pytest.fixture
def configured(home: Path) -> Path:
    """A home with two contexts."""
    path = home / ".metalctl" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(CONTEXTS), encoding="utf-8")
    return path


def test_the_current_context_says_where_and_who(configured: Path) -> None:
    assert configured.exists()
    access = access_of(MetalSettings())
    assert (access.url, access.hmac_key, access.hmac_type) == (
        "http://lab",
        "lab-key",
        "Metal-Edit",
    )


def test_a_flag_goes_before_the_environment_and_that_before_the_context(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert configured.exists()
    monkeypatch.setenv("METALCTL_API_URL", "http://environment")
    monkeypatch.setenv("METALCTL_HMAC", "environment-key")
    monkeypatch.setenv("METALCTL_HMAC_AUTH_TYPE", "Metal-View")
    access = access_of(MetalSettings())
    assert (access.url, access.hmac_key, access.hmac_type) == (
        "http://environment",
        "environment-key",
        "Metal-View",
    )
    key = tmp_path / "key"
    key.write_text("file-key\n", encoding="ascii")
    access = access_of(MetalSettings(api_url="http://flag", hmac_file=key, hmac_type="Metal-Admin"))
    assert (access.url, access.hmac_key, access.hmac_type) == (
        "http://flag",
        "file-key",
        "Metal-Admin",
    )
    assert access_of(MetalSettings(api_token="t")).token == "t"


def test_a_key_of_the_environment_replaces_the_token_of_a_login(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured.exists()
    settings = MetalSettings()
    keep_token(settings, context_of(settings), "from-login")
    assert access_of(settings).token == "from-login"
    assert access_of(settings).hmac_key == ""
    monkeypatch.setenv("METALCTL_HMAC", "k")
    assert (access_of(settings).token, access_of(settings).hmac_key) == ("", "k")


def test_an_authority_may_be_pem_or_that_in_base64(configured: Path) -> None:
    assert configured.exists()
    assert context_of(MetalSettings(context="prod")).authority == PEM
    damaged = dict(CONTEXTS, contexts={"lab": {"certificate_authority_data": "%%%"}})
    configured.write_text(yaml.safe_dump(damaged), encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match="neither PEM nor base64"):
        context_of(MetalSettings())


def test_a_context_that_is_not_there_is_named_with_the_nearest(configured: Path) -> None:
    assert configured.exists()
    with pytest.raises(NotFoundError) as refused:
        context_of(MetalSettings(context="prd"))
    assert refused.value.remedy == "Did you mean prod?"


@pytest.mark.parametrize("text", ["[", "a", "contexts: [1]", "contexts: {a: 1}"])
def test_a_damaged_file_is_said_to_be_one(configured: Path, text: str) -> None:
    configured.write_text(text, encoding="utf-8")
    with pytest.raises(DataLossError, match="is damaged"):
        context_of(MetalSettings())


def test_a_configuration_of_the_working_directory_is_not_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.yaml").write_text(yaml.safe_dump(CONTEXTS), encoding="utf-8")
    monkeypatch.chdir(home)
    assert context_of(MetalSettings()) == MetalContext()


def test_contexts_are_listed_chosen_and_chosen_back(metalctl: Metalctl, configured: Path) -> None:
    done = metalctl("context")
    assert done.out.splitlines()[1].split() == ["lab", "yes", "http://lab"]
    assert "key" not in metalctl("context", "-o", "json").out
    assert "sesame" not in metalctl("context", "-o", "yaml").out
    assert metalctl("context", "short").out == "lab\n"
    assert metalctl("context", "prod").err == "The current context is prod.\n"
    assert metalctl("context", "-").err == "The current context is lab.\n"
    assert metalctl("context", "-").err == "The current context is prod.\n"
    assert configured.stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load(configured.read_text(encoding="utf-8")) == {
        **CONTEXTS,
        "current": "prod",
        "previous": "lab",
    }
    assert metalctl("context", "nope").status == 1


def test_tokens_are_kept_apart_and_readable_by_nobody_else(configured: Path, home: Path) -> None:
    assert configured.exists()
    settings = MetalSettings()
    lab, odd = MetalContext(name="lab"), MetalContext(name="../../etc/x")
    path = keep_token(settings, lab, "one")
    keep_token(settings, odd, "two")
    assert path == home / ".metalctl" / "tokens" / "lab.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.parent for each in home.rglob("*.yaml")].count(path.parent) == 2
    assert (read_token(settings, lab), read_token(settings, odd)) == ("one", "two")
    keep_token(settings, lab, "")
    assert (read_token(settings, lab), read_token(settings, odd)) == ("", "two")


def test_a_kubeconfig_that_is_named_keeps_the_token_and_loses_nothing(home: Path) -> None:
    path = home / "kubeconfig"
    others = {"apiVersion": "v1", "users": [{"name": "eve", "user": {"token": "t"}}], "x": 1}
    path.write_text(yaml.safe_dump(others), encoding="utf-8")
    settings, context = MetalSettings(kubeconfig=path), MetalContext(name="lab", client_id="c")
    keep_token(settings, context, "one")
    keep_token(settings, context, "two")
    assert read_token(settings, context) == "two"
    kept = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [user["name"] for user in kept["users"]] == ["eve", "metalctl-lab"]
    assert (kept["x"], kept["users"][0]) == (1, others["users"][0])  # type: ignore[index]
    keep_token(settings, context, "")
    assert read_token(settings, context) == ""
