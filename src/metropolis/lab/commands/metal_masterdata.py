# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal masterdata`: tenants, projects, address books over gRPC, without the rest."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.commands.metal_places import DATABASE, checked_database, default_directory
from metropolis.lab.commands.metal_tls import endpoint_of, tls_files, tls_options
from metropolis.lab.commands.options import run
from metropolis.metal.access.secret_files import read_secret
from metropolis.metal.audit.calls import recorder
from metropolis.metal.audit.upkeep import forget
from metropolis.metal.ipam.server import IpamServing
from metropolis.metal.ipam.server import serve as serve_ipam
from metropolis.metal.kinds import KINDS
from metropolis.metal.main import stop_on_signals
from metropolis.metal.masterdata.server import MasterdataServing
from metropolis.metal.masterdata.server import serve as serve_masterdata
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store.indexing import index_kinds
from metropolis.metal.store.opening import open_store
from metropolis.rpc.grpc.mutual import MutualTls

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--masterdata-listen",
        metavar="HOST:PORT",
        help="Where tenants and projects are served over gRPC; port 50051 is usual.",
    ),
    click.option(
        "--masterdata-hmac-key-file",
        metavar="FILE",
        help="Key with which clients of masterdata sign.",
    ),
    click.option(
        "--ipam-listen",
        metavar="HOST:PORT",
        help="Where the address books are served over gRPC; port 9090 is usual.",
    ),
)


def books_options(command: CommandT) -> CommandT:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def books_serving(
    tls: MutualTls | None,
    *,
    masterdata_listen: str | None,
    masterdata_hmac_key_file: str | None,
    ipam_listen: str | None,
) -> tuple[MasterdataServing | None, IpamServing | None]:
    """Return what the options say is to be served.

    Raises:
        InvalidArgumentError: something is missing, naming the option.
        NotFoundError: a file is not there.
        FailedPreconditionError: a file can be read by others, or is empty.
    """
    if (masterdata_listen or ipam_listen) and tls is None:
        raise InvalidArgumentError(
            "gRPC services are to be served, but without certificates",
            remedy="Give --tls-certificate-file, --tls-key-file and --tls-authority-file.",
        )
    if (masterdata_listen is None) != (masterdata_hmac_key_file is None):
        raise InvalidArgumentError(
            "masterdata needs an address and a key",
            remedy="Give both --masterdata-listen and --masterdata-hmac-key-file, or none.",
        )
    masterdata = ipam = None
    if tls and masterdata_listen and masterdata_hmac_key_file:
        masterdata = MasterdataServing(
            endpoint=endpoint_of("--masterdata-listen", masterdata_listen),
            tls=tls,
            key=read_secret(masterdata_hmac_key_file),
        )
    if tls and ipam_listen:
        ipam = IpamServing(endpoint=endpoint_of("--ipam-listen", ipam_listen), tls=tls)
    return masterdata, ipam


@click.command("masterdata")
@click.option(
    "--database", help="postgresql://… or the path of a SQLite file.  [default: that of `serve`]"
)
@tls_options
@books_options
def masterdata(
    *,
    database: str | None,
    masterdata_listen: str | None,
    masterdata_hmac_key_file: str | None,
    ipam_listen: str | None,
    **tls: str | None,
) -> None:
    """Serve tenants, projects and the address books over gRPC, without the rest.

    Beside a `serve` that uses the same database only if that is PostgreSQL.
    """
    wanted = books_serving(
        tls_files(**tls),
        masterdata_listen=masterdata_listen,
        masterdata_hmac_key_file=masterdata_hmac_key_file,
        ipam_listen=ipam_listen,
    )
    if wanted == (None, None):
        raise InvalidArgumentError(
            "nothing is to be served", remedy="Give --masterdata-listen or --ipam-listen."
        )
    run(_serve(checked_database(database or _default_database()), *wanted))


def _default_database() -> str:
    directory: Path = default_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(directory / DATABASE)


async def _serve(
    database: str, masterdata: MasterdataServing | None, ipam: IpamServing | None
) -> None:
    clock, entropy = LinuxClock(), LinuxEntropy()
    stop = asyncio.Event()
    stop_on_signals(stop)
    store = await open_store(database, clock=clock)
    try:
        await index_kinds(store, KINDS)
        site = Site(store=store, clock=clock, entropy=entropy, settings=Settings())
        async with asyncio.TaskGroup() as group:
            upkeep = group.create_task(forget(site))
            group.create_task(_cancel_at(stop, upkeep))
            if masterdata is not None:
                group.create_task(
                    serve_masterdata(
                        masterdata,
                        store,
                        clock=clock,
                        entropy=entropy,
                        stop=stop,
                        record=recorder(site),
                        started=lambda endpoint: _say("masterdata", endpoint),
                    )
                )
            if ipam is not None:
                group.create_task(
                    serve_ipam(
                        ipam,
                        store,
                        entropy=entropy,
                        stop=stop,
                        started=lambda endpoint: _say("ipam", endpoint),
                    )
                )
    finally:
        await store.close()


async def _cancel_at(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    await stop.wait()
    task.cancel()


def _say(what: str, endpoint: object) -> None:
    print(f"{what}: serving gRPC on {endpoint}; stop it with Ctrl+C", file=sys.stderr, flush=True)
