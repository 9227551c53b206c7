# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal backup`: backups of a control plane's database, by hand."""

import os
import re
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from metropolis.base.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.commands.metal_places import DATABASE, checked_database, default_directory
from metropolis.lab.commands.options import run
from metropolis.metal.access.secret_files import read_secret
from metropolis.metal.backup.backups import (
    Backup,
    Vault,
    create_backup,
    list_backups,
    restore_backup,
    verify_backup,
)
from metropolis.metal.backup.file import SECRET_BYTES, key_id, parse_secret
from metropolis.metal.backup.schedule import EVERY, KEEP, KEEP_DAYS, Plan, Safekeeping
from metropolis.metal.backup.shelf import DirectoryShelf, S3Shelf, Shelf
from metropolis.metal.kinds import KINDS
from metropolis.metal.s3 import S3Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_BUCKET: Final = "s3://"
_PERIOD: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _place_options(prefix: str, *, with_key: bool = True) -> list[Callable[[Any], Any]]:
    """Options that say where backups are; `prefix` sets them apart from others of a command."""
    given = f"--{prefix}" if prefix else "--"
    options = [
        click.option(
            f"{given}to", "backup_to", metavar="PLACE", help="A directory, or s3://BUCKET/PREFIX."
        ),
        click.option(
            f"{given}s3-endpoint", "backup_s3_endpoint", metavar="URL", help="Of that bucket."
        ),
        click.option(
            f"{given}s3-region",
            "backup_s3_region",
            metavar="NAME",
            help="Its region.  [default: us-east-1]",
        ),
        click.option(
            f"{given}s3-access-key-file",
            "backup_s3_access_key_file",
            metavar="FILE",
            help="File with its access key.",
        ),
        click.option(
            f"{given}s3-secret-key-file",
            "backup_s3_secret_key_file",
            metavar="FILE",
            help="File with its secret key.",
        ),
    ]
    if with_key:
        key = click.option(
            f"{given}key-file",
            "backup_key_file",
            metavar="FILE",
            help="Key that encrypts backups; `metropolis metal backup keygen` makes one.",
        )
        options.insert(1, key)
    return options


_SCHEDULE: Final = (
    click.option(
        "--backup-every",
        metavar="PERIOD",
        default=f"{EVERY // timedelta(minutes=1)}m",
        show_default=True,
        help="Time between backups, 30s, 10m, 6h or 1d.",
    ),
    click.option(
        "--backup-keep",
        type=click.IntRange(1),
        default=KEEP,
        show_default=True,
        help="Keep the newest so many.",
    ),
    click.option(
        "--backup-keep-days",
        type=click.IntRange(0),
        default=KEEP_DAYS,
        show_default=True,
        help="Keep whatever is younger.",
    ),
)


def _add(command: CommandT, options: "list[Callable[[Any], Any]]") -> CommandT:
    for option in reversed(options):
        command = option(command)
    return command


def backup_options(command: CommandT) -> CommandT:
    """Add to `serve` the options of scheduled backups."""
    return _add(command, [*_place_options("backup-"), *_SCHEDULE])


def _place(command: CommandT) -> CommandT:
    return _add(command, _place_options("", with_key=False))


def _place_and_key(command: CommandT) -> CommandT:
    return _add(command, _place_options(""))


def safekeeping(
    *,
    backup_to: str | None,
    backup_key_file: str | None,
    backup_every: str,
    backup_keep: int,
    backup_keep_days: int,
    **bucket: str | None,
) -> Safekeeping | None:
    """Return what the options of `serve` say; None: no backups are wanted.

    Raises:
        MetropolisError: they say too little, or something else than they may.
    """
    if backup_to is None:
        return None
    return Safekeeping(
        shelf=_shelf(backup_to, **bucket),
        secret=_secret(backup_key_file, "--backup-key-file"),
        plan=Plan(every=_period(backup_every), keep=backup_keep, keep_days=backup_keep_days),
    )


def _period(text: str) -> timedelta:
    found = _PERIOD.fullmatch(text)
    period = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < period <= timedelta(days=366):
        raise InvalidArgumentError(
            f"{text!r} is no time between backups", remedy="Write it as 30s, 10m, 6h or 1d."
        )
    return period


def _secret(path: str | None, option: str) -> bytes:
    if path is None:
        raise InvalidArgumentError(
            f"backups are encrypted, and {option} is missing",
            remedy=f"Make a key with `metropolis metal backup keygen FILE` and give {option} FILE.",
        )
    return parse_secret(read_secret(path))


def _shelf(
    place: str | None,
    *,
    backup_s3_endpoint: str | None,
    backup_s3_region: str | None,
    backup_s3_access_key_file: str | None,
    backup_s3_secret_key_file: str | None,
) -> Shelf:
    if not place:
        raise InvalidArgumentError(
            "where the backups are is missing", remedy="Give --to DIRECTORY or s3://BUCKET/PREFIX."
        )
    if not place.startswith(_BUCKET):
        return DirectoryShelf(Path(place))
    bucket, _, prefix = place.removeprefix(_BUCKET).partition("/")
    needed = {
        "endpoint": backup_s3_endpoint,
        "access-key-file": backup_s3_access_key_file,
        "secret-key-file": backup_s3_secret_key_file,
    }
    missing = [f"s3-{name}" for name, value in needed.items() if not value]
    if missing or not bucket:
        raise InvalidArgumentError(
            f"the bucket of {place!r} cannot be used: {', '.join(missing) or 'its name'} missing",
            remedy="Name the bucket and give all options of it.",
        )
    settings = S3Settings(
        endpoint=backup_s3_endpoint or "",
        bucket=bucket,
        region=backup_s3_region or "us-east-1",
        access_key=read_secret(backup_s3_access_key_file or "").decode(errors="replace"),
        secret_key=read_secret(backup_s3_secret_key_file or "").decode(errors="replace"),
    )
    return S3Shelf(settings, prefix=prefix)


def _vault(backup_to: str | None, backup_key_file: str | None, bucket: dict[str, Any]) -> Vault:
    return Vault(
        shelf=_shelf(backup_to, **bucket),
        secret=_secret(backup_key_file, "--key-file"),
        kinds=KINDS,
        clock=LinuxClock(),
        entropy=LinuxEntropy(),
    )


def _checked(_: click.Context, __: click.Parameter, database: str) -> str:
    return checked_database(database)


_database = click.option(
    "--database",
    default=lambda: str(default_directory() / DATABASE),
    callback=_checked,
    show_default=f"$XDG_STATE_HOME/metropolis/metal/{DATABASE}",
    help="postgresql://… or the path of a SQLite file.",
)


@click.group("backup", no_args_is_help=True)
def backup() -> None:
    """Back up the control plane's database, and restore it."""


@backup.command("keygen")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def keygen(file: Path) -> None:
    """Make a key for backups and write it into FILE, readable by nobody else.

    Keep a copy away from this computer: without it no backup can be read.
    """
    secret = LinuxEntropy().token_bytes(SECRET_BYTES)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError as cause:
        raise AlreadyExistsError(
            f"{file} exists", remedy="Name another file: backups need the key that is in it."
        ) from cause
    except OSError as cause:
        raise NotFoundError(
            f"cannot write {file}: {cause.strerror}", remedy="Name a file that can be made."
        ) from cause
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(secret.hex() + "\n")
    print(f"backup: wrote key {key_id(secret)} to {file}; keep a copy elsewhere", file=sys.stderr)


@backup.command("create")
@_database
@_place_and_key
def create(
    *, database: str, backup_to: str | None, backup_key_file: str | None, **bucket: str | None
) -> None:
    """Back up a database, which may be in use, and prove the backup by a rehearsal."""
    vault = _vault(backup_to, backup_key_file, bucket)

    async def work() -> Backup:
        made = await create_backup(vault, database)
        await verify_backup(vault, made.name)
        return made

    print(run(work()).name)


@backup.command("list")
@_place
def show(*, backup_to: str | None, **bucket: str | None) -> None:
    """List backups, the newest last."""
    for each in run(list_backups(_shelf(backup_to, **bucket))):
        created = each.created.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
        print(f"{created}Z  schema {each.schema_version}  revision {each.revision:<9} {each.name}")


@backup.command("verify")
@click.argument("name", required=False)
@_place_and_key
def verify(
    *, name: str | None, backup_to: str | None, backup_key_file: str | None, **bucket: str | None
) -> None:
    """Restore backup NAME, or the newest, into a scratch database, and read all of it there."""
    vault = _vault(backup_to, backup_key_file, bucket)

    async def work() -> str:
        chosen = name
        if chosen is None:
            backups = await list_backups(vault.shelf)
            if not backups:
                raise NotFoundError("there is no backup", remedy="Make one, or name another place.")
            chosen = backups[-1].name
        header = await verify_backup(vault, chosen)
        return f"{chosen}: good, of {header.created:%Y-%m-%d %H:%M:%S}Z, revision {header.revision}"

    print(run(work()))


@backup.command("restore")
@click.argument("name", required=False)
@_database
@_place_and_key
def restore(
    *,
    name: str | None,
    database: str,
    backup_to: str | None,
    backup_key_file: str | None,
    **bucket: str | None,
) -> None:
    """Restore backup NAME, or the newest, into an empty database that no replica serves."""
    if not database.startswith("postgres"):
        Path(database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work: Coroutine[Any, Any, Backup] = restore_backup(
        _vault(backup_to, backup_key_file, bucket), database, name
    )
    done = run(work)
    print(f"restored {done.name}: everything as of {done.created:%Y-%m-%d %H:%M:%S}Z")
    print("backup: start the replicas now", file=sys.stderr)
