# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine delete`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import click

from metropolis.ctl.metal.bulk import require_sure
from metropolis.ctl.metal.client import Client, quoted
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.entity_commands import delete_command
from metropolis.ctl.metal.options import settings_of


def _forget(client: Client, key: str) -> Any:  # noqa: ANN401  # JSON
    return client.call("DELETE", f"/v1/machine/{quoted(key)}")


def _adapt(ctx: click.Context, given: Mapping[str, Any]) -> Entity:
    entity = entity_of("machine")
    if not given["remove_from_database"]:
        return entity
    if not given["dry_run"]:
        require_sure(
            settings_of(ctx), "a machine that is removed from the database must register anew"
        )
    return replace(entity, delete=_forget)


machine_delete: Final = delete_command(
    entity_of("machine"),
    extra=[
        click.Option(
            ["--remove-from-database"],
            is_flag=True,
            help="Forget hardware that is gone for good, instead of freeing it.",
        )
    ],
    adapt=_adapt,
    summary="Free a machine, or many of a file: its disks are wiped, its addresses given back.",
)
