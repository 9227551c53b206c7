# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster backup …`."""

from datetime import UTC
from pathlib import Path

import click

from metropolis.api import backup_pb2 as wire
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl import backups, recovery_key
from metropolis.ctl.audit_log import short
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.session import run
from metropolis.ctl.text_table import render
from metropolis.formats.backup.header import Header
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.linux.entropy import LinuxEntropy

_UNITS_S = {"m": 60, "h": 3600, "d": 86400}
DEFAULT_KEEP = 14


@command("keygen")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Instead of the key that the cluster has.")
@click.option("--no-register", is_flag=True, help="Only make the key; tell no cluster.")
@click.pass_context
def backup_keygen(
    ctx: click.Context, file: Path | None, *, replace: bool, no_register: bool
) -> None:
    """Make the recovery key, and have backups encrypted to it.

    FILE gets the private half, which opens every backup: keep a copy of it away from the cluster.
    An existing file is used as it is. Without FILE it lies with the keys of the context.
    """
    settings = settings_of(ctx)
    path = file or recovery_key.default_path(context_of(settings))
    is_new = recovery_key.create(path, LinuxEntropy())
    private_key = recovery_key.read(path)
    name = recovery_key.name_of(private_key)
    say(f"{'Made' if is_new else 'Using'} recovery key {name} in {path}.")
    if no_register:
        return

    async def act(cluster: Cluster) -> None:
        await backups.set_recovery_key(
            cluster.channel,
            public_key_of(private_key),
            replace=replace,
            timeout_s=cluster.timeout_s,
        )

    run(settings, act)
    say(f"Backups of the cluster are encrypted to recovery key {name} from now on.")
    say("Keep a copy of that file away from the cluster and from this computer.")


@command("create")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def backup_create(ctx: click.Context, file: Path) -> None:
    """Make a backup of the cluster's state now, into a new FILE."""
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> Header:
        header = await backups.create(cluster.channel, file, timeout_s=cluster.timeout_s)
        recovery_key.remember_generation(context_of(settings), cluster.ca, header.generation)
        return header

    header = run(settings, act)
    say(
        f"Wrote backup {header.generation} of revision {header.revision} to {file}, "
        f"for recovery key {recovery_key.short(header.recovery_key_fingerprint)}."
    )


@command("fetch")
@click.argument("generation", type=click.IntRange(min=1))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def backup_fetch(ctx: click.Context, generation: int, file: Path) -> None:
    """Copy a scheduled backup from a node that holds it into a new FILE."""

    async def act(cluster: Cluster) -> Header:
        return await backups.fetch(cluster, generation, file)

    header = run(settings_of(ctx), act)
    say(f"Wrote backup {header.generation} of revision {header.revision} to {file}.")


@command("list")
@click.pass_context
def backup_list(ctx: click.Context) -> None:
    """List the scheduled backups, newest first, and the nodes whose disks they are on.

    The leader names what it has heard of: members tell it every ten seconds.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> wire.ListBackupsResponse:
        found = await backups.listing(cluster.channel, timeout_s=cluster.timeout_s)
        recovery_key.remember_generation(context_of(settings), cluster.ca, found.newest_generation)
        return found

    found = run(settings, act)
    if found.last_failure:
        say(f"The last scheduled backup failed: {found.last_failure}")
    if not found.backups:
        say("No scheduled backup is kept on any node.")
    emit(settings, data=lambda: document_of(found), text=lambda: _table(found))


@command("schedule")
@click.option("--every", metavar="TIME", help="Interval, e.g. 30m, 6h or 1d.")
@click.option(
    "--keep", type=int, default=DEFAULT_KEEP, show_default=True, help="How many each member keeps."
)
@click.option("--off", is_flag=True, help="Make no more backups.")
@click.pass_context
def backup_schedule(ctx: click.Context, every: str | None, *, keep: int, off: bool) -> None:
    """Show or set how often the leader makes a backup, which all consensus members keep."""
    settings = settings_of(ctx)
    if every is not None and off:
        raise InvalidArgumentError("--every and --off exclude each other", remedy="Give one.")
    interval_s = None if every is None else parse_interval_s(every)

    async def act(cluster: Cluster) -> wire.BackupSettings:
        if interval_s is None and not off:
            return await backups.settings(cluster.channel, timeout_s=cluster.timeout_s)
        return await backups.set_schedule(
            cluster.channel,
            interval_s=interval_s or 0,
            keep=0 if off else keep,
            timeout_s=cluster.timeout_s,
        )

    found = run(settings, act)
    emit(settings, data=lambda: document_of(found), text=lambda: _schedule_text(found))


@command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="Recovery key; default: the context's."
)
@click.pass_context
def backup_verify(ctx: click.Context, file: Path, *, key: Path | None) -> None:
    """Open a backup and restore it into a scratch store in memory. Needs no cluster.

    The leader rehearses each scheduled backup in a scratch etcd besides.
    """
    from metropolis.ctl.rehearsal import rehearse  # noqa: PLC0415  # heavy, and for two commands

    settings = settings_of(ctx)
    context = context_of(settings)
    rehearsed = rehearse(file, recovery_key.read(key or recovery_key.default_path(context)))
    header = rehearsed.header
    if context.directory.is_dir():
        recovery_key.remember_generation(context, rehearsed.ca_certificate, header.generation)
    document = {
        **document_of(header.to_wire()),
        "records": rehearsed.records,
        "nodes": rehearsed.nodes,
    }
    emit(
        settings,
        data=document,
        text=f"Backup {header.generation} of {header.cluster_domain or 'a cluster'}, made "
        f"{_time(header)}, is whole: {rehearsed.records} records of {rehearsed.nodes} nodes "
        "came back in a rehearsal, in memory.\n",
    )


def parse_interval_s(text: str) -> int:
    """Understand an interval, e.g. `6h`.

    Raises:
        InvalidArgumentError: it is none.
    """
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS_S or len(number) > 6:  # noqa: PLR2004
        raise InvalidArgumentError(
            f"{text[:64]!r} is not an interval", remedy="Give a number and m, h or d, e.g. 6h."
        )
    return int(number) * _UNITS_S[unit]


def _time(header: Header) -> str:
    return f"{header.created:%Y-%m-%d %H:%M:%S} UTC"


def _table(found: wire.ListBackupsResponse) -> str:
    if not found.backups:
        return ""
    rows = [
        [
            str(each.header.generation),
            f"{each.header.created.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S}",
            str(each.header.revision),
            str(each.records),
            str(each.size_bytes),
            recovery_key.short(each.header.recovery_key_fingerprint),
            ", ".join(map(short, each.nodes)),
        ]
        for each in found.backups
    ]
    return render(
        ["GENERATION", "MADE (UTC)", "REVISION", "RECORDS", "BYTES", "KEY", "ON NODES"], rows
    )


def _schedule_text(found: wire.BackupSettings) -> str:
    if not found.interval_s:
        return "No backups are scheduled.\n"
    fits = [unit for unit in ("d", "h", "m") if found.interval_s % _UNITS_S[unit] == 0]
    every = f"{found.interval_s // _UNITS_S[fits[0]]}{fits[0]}" if fits else f"{found.interval_s}s"
    return f"A backup is made every {every}; each consensus member keeps the newest {found.keep}.\n"
