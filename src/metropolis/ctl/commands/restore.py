# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster restore`."""

import asyncio
from pathlib import Path
from typing import Final

import click

from metropolis.api.backup_pb2 import RestoreFile
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.ctl import backups, credentials, files, recovery_key
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import connect
from metropolis.ctl.contexts import Context
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.formats.backup.header import Header

ALIVE_TIMEOUT_S: Final = 5.0  # how long the old cluster may take to show that it lives


@command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", "directory", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Recovery key; default: the context's."
)
@click.option(
    "--force", is_flag=True, help="Although a newer backup is known, or the old cluster lives."
)
@click.pass_context
def cluster_restore(
    ctx: click.Context, file: Path, *, directory: Path, key: Path | None, force: bool
) -> None:
    """Prepare the first node of new hardware, on which a cluster comes back from a backup.

    Writes parameters.pb and restore.pb into DIR; both belong into the directory `metropolis` of the
    EFI system partition of one machine. They hold every key of the cluster. CA, owner, users and
    configuration come back; the nodes of before do not, and are refused for ever.
    """
    from metropolis.ctl.rehearsal import rehearse  # noqa: PLC0415  # heavy, and for two commands

    settings = settings_of(ctx)
    context = context_of(settings)
    rehearsed = rehearse(file, recovery_key.read(key or recovery_key.default_path(context)))
    header = rehearsed.header
    _check_ca(context, rehearsed.ca_certificate)
    newest = asyncio.run(_newest_alive(context))
    if newest is not None and not force:
        raise FailedPreconditionError(
            "the cluster of this context still answers: two clusters with one CA would fight",
            remedy="Switch every old node off first, or add --force if it is not that cluster.",
        )
    known = max(newest or 0, recovery_key.known_generation(context, header.ca_fingerprint))
    _check_generation(header, known, force=force)
    parameters = NodeParameters(
        cluster_bootstrap=NodeParameters.ClusterBootstrap(
            owner_public_key=rehearsed.owner_public_key,
            initial_cluster_configuration=rehearsed.configuration,
        )
    )
    restoring = RestoreFile(archive=rehearsed.archive, known_generation=known)
    files.make_directory(directory)
    for name, message in (("parameters.pb", parameters), ("restore.pb", restoring)):
        asyncio.run(_write(directory / name, message.SerializeToString(deterministic=True)))
    say(
        f"Prepared {directory}: backup {header.generation} of "
        f"{header.created:%Y-%m-%d %H:%M:%S} UTC, {rehearsed.records} records."
    )
    say("These files hold every key of the cluster: delete them once the node has them.")


def _check_ca(context: Context, ca: bytes) -> None:
    """Refuse a backup of another cluster than the context's, if it has one."""
    trusted = credentials.read_ca(context)
    if trusted is not None and trusted != ca:
        raise FailedPreconditionError(
            "this backup is of another cluster than this context",
            remedy="Name the context of that cluster with --context, or one without a cluster.",
        )


def _check_generation(header: Header, known: int, *, force: bool) -> None:
    if header.generation < known and not force:
        raise FailedPreconditionError(
            f"this backup has generation {header.generation}, and generation {known} is known: "
            "whatever changed in between would be lost, users who were revoked among it",
            remedy=f"Use backup {known}, or add --force if it is lost.",
        )


async def _newest_alive(context: Context) -> int | None:
    """Return the newest generation of a cluster that answers; None if none does."""
    if not context.is_owner or not context.endpoints:
        return None
    try:
        async with (
            asyncio.timeout(ALIVE_TIMEOUT_S),
            connect(context, timeout_s=ALIVE_TIMEOUT_S) as cluster,
        ):
            found = await backups.listing(cluster.channel, timeout_s=ALIVE_TIMEOUT_S)
    except (MetropolisError, TimeoutError):
        return None
    return found.newest_generation


async def _write(path: Path, data: bytes) -> None:
    async def produce(write: backups.Write) -> None:
        write(data)

    await backups.write_new(path, produce)
