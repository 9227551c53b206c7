# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal`: the bare-metal control plane on this computer."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.help_settings import HELP_SETTINGS
from metropolis.lab.commands.metal_backup import backup, backup_options, safekeeping
from metropolis.lab.commands.metal_boot import boot_options, boot_serving, certificate
from metropolis.lab.commands.metal_check import check
from metropolis.lab.commands.metal_firmware import firmware_options, firmware_settings
from metropolis.lab.commands.metal_masterdata import books_options, books_serving, masterdata
from metropolis.lab.commands.metal_places import DATABASE, checked_database, default_directory
from metropolis.lab.commands.metal_process import serve_until_stopped
from metropolis.lab.commands.metal_tls import tls_files, tls_options
from metropolis.lab.commands.options import run, spelled
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.access.role import Role
from metropolis.metal.access.secret_files import read_secret
from metropolis.metal.boot.server import BootServing
from metropolis.metal.main import Serving
from metropolis.metal.settings import Settings

DEFAULT_TCP_PORT: Final = 8080
_KEY_BYTES: Final = 32
_ROLES: Final = {"view": Role.VIEW, "edit": Role.EDIT, "admin": Role.ADMIN}


@click.group("metal", no_args_is_help=True, context_settings=dict(HELP_SETTINGS))
def metal() -> None:
    """Run the bare-metal control plane."""


metal.add_command(backup)
metal.add_command(masterdata)
metal.add_command(certificate)
metal.add_command(check)


@metal.command("serve")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default="$XDG_STATE_HOME/metropolis/metal",
    help="Where the database and the keys are that are not named.",
)
@click.option(
    "--database", help="postgresql://… or the path of a SQLite file.  [default: in the directory]"
)
@click.option(
    "--listen",
    default=f"127.0.0.1:{DEFAULT_TCP_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the REST API listens.",
)
@click.option("--base-path", default="/", show_default=True, help="Prefix of every REST path.")
@click.option(
    "--provider-tenant",
    default="metal-stack",
    show_default=True,
    help="Whose users may call the API.",
)
@click.option("--hmac-view-key-file", "view_key", help="Key of viewers.  [default: made]")
@click.option("--hmac-edit-key-file", "edit_key", help="Key of editors.  [default: made]")
@click.option("--hmac-admin-key-file", "admin_key", help="Key of administrators.  [default: made]")
@click.option(
    "--check-urls/--no-check-urls",
    default=True,
    show_default=True,
    help="Ask for images and boot files before their URLs are stored.",
)
@click.option(
    "--bmc-superuser-password-file",
    "superuser_file",
    help="Password of every BMC's root, for machines whose BMC has no user of its own.",
)
@click.option("--metrics-listen", metavar="HOST:PORT", help="Where Prometheus reads.")
@click.option("--seed", is_flag=True, help="Fill an empty database with an example.")
@firmware_options
@backup_options
@boot_options
@tls_options
@books_options
def serve(
    *,
    directory: Path,
    database: str | None,
    listen: str,
    base_path: str,
    provider_tenant: str,
    view_key: str | None,
    edit_key: str | None,
    admin_key: str | None,
    check_urls: bool,
    superuser_file: str | None,
    seed: bool,
    metrics_listen: str | None,
    **others: Any,  # noqa: ANN401  # of the options that other files add
) -> None:
    """Serve one replica of the control plane until it is interrupted.

    Without a database it keeps everything in a SQLite file. Keys that are not named are made once
    and kept beside it, readable by nobody else.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    named = {"view": view_key, "edit": edit_key, "admin": admin_key}
    files = {role: path or _made_key(directory, role) for role, path in named.items()}
    host, tcp_port = _address(listen)
    tls = tls_files(**_taken(others, "tls_"))
    boot, machines = boot_serving(directory, **_taken(others, "grpc_"))
    books = books_serving(tls, **_taken(others, "masterdata_"), **_taken(others, "ipam_"))
    serving = Serving(
        database=checked_database(database) if database else str(directory / DATABASE),
        host=host,
        tcp_port=tcp_port,
        settings=Settings(
            base_path=_base_path(base_path),
            provider_tenant=provider_tenant,
            check_urls=check_urls,
            firmware=firmware_settings(**_taken(others, "firmware_")),
            superuser_password=read_secret(superuser_file).decode() if superuser_file else "",
        ),
        keys=HmacKeys(keys={_ROLES[role]: read_secret(path) for role, path in files.items()}),
        backup=safekeeping(**_taken(others, "backup_")),
        seed=seed,
        boot=boot,
        machines=machines,
        metrics=_address(metrics_listen) if metrics_listen else None,
        masterdata=books[0],
        ipam=books[1],
    )

    run(serve_until_stopped(serving, lambda url: _say_started(url, files["admin"], boot)))


def _taken(options: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith(prefix)}


def _say_started(url: str, admin_key: str, boot: BootServing | None) -> None:
    grpc = "" if boot is None else f"metal: serving machines and agents on {boot.endpoint}\n"
    print(
        f"metal: serving {url}/v1; stop it with Ctrl+C\n{grpc}\n"
        "Try next, in another terminal:\n"
        f"  curl -s {url}/v1/version\n"
        f"  export METALCTL_API_URL={url} METALCTL_HMAC=$(cat {admin_key})\n"
        f"  {spelled('metalctl')} machine list",
        file=sys.stderr,
        flush=True,
    )


def _made_key(directory: Path, role: str) -> str:
    """Return the file of a role's key, written when there is none."""
    path = directory / f"hmac-{role}.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return str(path)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
    return str(path)


def _address(listen: str) -> tuple[str, int]:
    host, _, tcp_port = listen.rpartition(":")
    if not host or not tcp_port.isdigit() or int(tcp_port) > 65535:  # noqa: PLR2004  # a port
        raise InvalidArgumentError(
            f"{listen!r} is no address to listen on",
            remedy="Write it as 127.0.0.1:8080 or [::1]:8080.",
        )
    return host.strip("[]"), int(tcp_port)


def _base_path(given: str) -> str:
    if not given.startswith("/") or not given.endswith("/"):
        raise InvalidArgumentError(
            f"the base path {given!r} does not begin and end with a slash",
            remedy="Write it as /metal/.",
        )
    return given
