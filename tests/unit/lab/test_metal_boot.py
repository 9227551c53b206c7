# SPDX-License-Identifier: Apache-2.0
"""Options of `metropolis metal serve` about machines and agents."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kits.mutual_tls import Authority
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.lab.commands.metal import metal
from metropolis.lab.commands.metal_boot import boot_serving
from metropolis.metal.boot.server import BootServing
from metropolis.metal.simulated.fleet import Fleet
from metropolis.rpc.transport import Endpoint


def asked(directory: Path, **given: Any) -> tuple[BootServing | None, Fleet | None]:
    nothing: dict[str, Any] = {
        "grpc_listen": None,
        "grpc_certificate_file": None,
        "grpc_key_file": None,
        "grpc_authority_file": None,
        "grpc_name": (),
        "grpc_machines": 0,
    }
    return boot_serving(directory, **(nothing | given))


def test_nothing_is_served_or_made_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert asked(tmp_path) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_certificates_that_are_not_named_are_made(tmp_path: Path) -> None:
    serving, fleet = asked(tmp_path, grpc_listen="127.0.0.1:0", grpc_machines=3)
    assert serving is not None
    assert serving.endpoint == Endpoint("127.0.0.1", 0)
    assert Path(serving.tls.certificate) == tmp_path / "grpc" / "server.pem"
    assert fleet is not None
    assert fleet.count == 3
    assert Path(fleet.agent_tls.key).name == "mini-lab-bmc-agent.key"


def test_certificates_that_are_named_are_used_and_none_is_made(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("server")
    named = {
        "grpc_listen": "[::1]:50051",
        "grpc_certificate_file": files.certificate,
        "grpc_key_file": files.key,
        "grpc_authority_file": files.authority,
    }
    serving, fleet = asked(tmp_path, **named)
    assert serving is not None
    assert (serving.tls, fleet) == (files, None)
    assert not (tmp_path / "grpc").exists()
    with pytest.raises(InvalidArgumentError, match="simulated machines"):
        asked(tmp_path, **named, grpc_machines=1)
    Path(files.key).chmod(0o644)
    with pytest.raises(FailedPreconditionError):
        asked(tmp_path, **named)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grpc_key_file": "k"}, "none says where"),
        ({"grpc_machines": 1}, "none says where"),
        ({"grpc_name": ("metal.example.org",)}, "none says where"),
        ({"grpc_listen": "localhost"}, "no address to listen on"),
        (
            {"grpc_listen": "127.0.0.1:1", "grpc_key_file": "k"},
            "--grpc-certificate-file, --grpc-authority-file missing",
        ),
    ],
)
def test_what_does_not_fit_together_is_said(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        asked(tmp_path, **given)


def test_a_certificate_is_made_for_an_agent(tmp_path: Path) -> None:
    options = ["certificate", "bmc-agent", "--partition", "fra-1", "--directory", str(tmp_path)]
    done = CliRunner().invoke(metal, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    key = tmp_path / "grpc" / "fra-1-bmc-agent.key"
    assert str(key) in done.output
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidArgumentError, match="--partition"):
        CliRunner().invoke(metal, [*options[:2], "--partition", "a/b"], catch_exceptions=False)


def test_help_looks_the_same_when_the_group_is_called_by_itself() -> None:
    shown = CliRunner().invoke(metal, ["certificate", "-h"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert "-h, --help" in shown.output


@pytest.mark.parametrize("address", ["u:sesame@127.0.0.1:1/db", "127.0.0.1:1/db?password=sesame"])
def test_no_password_of_a_database_stands_on_the_command_line(tmp_path: Path, address: str) -> None:
    options = ["serve", "--directory", str(tmp_path), "--database", f"postgresql://{address}"]
    with pytest.raises(InvalidArgumentError) as caught:
        CliRunner().invoke(metal, options, catch_exceptions=False)
    assert "~/.pgpass" in caught.value.remedy
    assert "sesame" not in str(caught.value)
