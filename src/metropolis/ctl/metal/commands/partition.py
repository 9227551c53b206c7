# SPDX-License-Identifier: Apache-2.0
"""`metalctl partition capacity`."""

from typing import Any, Final

import click

from metropolis.ctl.metal.cells import Json, entries
from metropolis.ctl.metal.flags import body_of, split, text_flag
from metropolis.ctl.metal.options import MetalctlCommand, settings_of
from metropolis.ctl.metal.output import emit_list
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import sorted_by
from metropolis.ctl.metal.tables import inventory

_FLAGS: Final = (
    text_flag("id", "Of one partition.", "id", completes="partition"),
    text_flag(
        "project-id",
        "As this project sees it: what is kept for others is not free.",
        "projectid",
        completes="project",
    ),
    text_flag("size", "Of one size.", "sizeid", completes="size"),
)


_KEYS: Final = {"id": "id", "name": "name", "description": "description"}


def _capacity(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    with opened(settings) as client:
        found: list[Json] = (
            client.call("POST", "/v1/partition/capacity", body_of(_FLAGS, given)) or []
        )
    keys = split(given["sort_by"]) or ["id", "size"]
    of_sizes = [key for key in keys if key.partition(":")[0] == "size"]
    items = sorted_by(found, _KEYS, [key for key in keys if key not in of_sizes])
    for each in items:
        each["servers"] = sorted_by(entries(each, "servers"), {"size": "size"}, of_sizes)
    emit_list(settings, items, inventory.capacity)


partition_capacity: Final = MetalctlCommand(
    "capacity",
    callback=_capacity,
    help="Show how many machines of each size are allocated, free, kept or faulty.",
    params=[
        *(flag.option() for flag in _FLAGS),
        click.Option(
            ["--sort-by"],
            multiple=True,
            metavar="COLUMN,…",
            help="id, name, description, size; with :asc or :desc behind it.",
        ),
    ],
)
