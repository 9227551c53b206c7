# SPDX-License-Identifier: Apache-2.0
"""`metroctl cert export`, also spelled `metroctl certs export`."""

from pathlib import Path

import click

from metropolis.ctl import credentials as owner
from metropolis.ctl import files
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.pki import certificates, keys


@command("export")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write them; default: the current directory.",
)
@click.pass_context
def cert_export(ctx: click.Context, directory: Path) -> None:
    """Write owner.crt and owner.key for other tools.

    The key is in PKCS#8 form and readable by you alone.
    """
    credentials = owner.owner_credentials(context_of(settings_of(ctx)))
    certificate, key = directory.absolute() / "owner.crt", directory.absolute() / "owner.key"
    files.make_directory(directory.absolute())
    files.replace(key, keys.to_pkcs8_pem(credentials.key))
    files.replace(certificate, certificates.to_pem(credentials.certificate), mode=files.PUBLIC)
    say(f"Wrote {directory / 'owner.crt'} and {directory / 'owner.key'}.")
