# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal check`: whether the books of a control plane agree with each other."""

from pathlib import Path

import click

from metropolis.base.errors import FailedPreconditionError, NotFoundError
from metropolis.host.linux.clock import LinuxClock
from metropolis.lab.commands.metal_places import DATABASE, checked_database, default_directory
from metropolis.lab.commands.options import run
from metropolis.metal.services.leaks import Leak, find_leaks
from metropolis.metal.store.opening import is_postgres, open_store, sqlite_path


@click.command("check")
@click.option(
    "--database",
    help="postgresql://… or the path of a SQLite file.  [default: as for metal serve]",
)
def check(database: str | None) -> None:
    """Compare address books with networks, addresses, machines and switches.

    Prints what is taken by nobody, and what somebody has without having taken it. It corrects
    nothing and may be run at any time, also while replicas serve the database. Use their release:
    a newer one brings the tables of an older one up to its own.
    """
    place = checked_database(database or str(default_directory() / DATABASE))
    if not is_postgres(place) and not Path(sqlite_path(place)).is_file():
        raise NotFoundError(
            f"there is no database at {place}", remedy="Name the one that is served."
        )
    found = run(_find(place))
    for each in found:
        print(f"{each.what} {each.id}: {each.reason}. {each.remedy}")
    if found:
        raise FailedPreconditionError(
            f"the books disagree in {len(found)} places", remedy="Do what each line says, by hand."
        )
    print("the books agree")


async def _find(database: str) -> list[Leak]:
    store = await open_store(database, clock=LinuxClock())
    try:
        return await store.read(find_leaks)
    finally:
        await store.close()
