# SPDX-License-Identifier: Apache-2.0
"""`metalctl size suggest`, `size imageconstraint try` and `size reservation usage`."""

from typing import Any, Final

import click

from metropolis.ctl.metal.cells import Json
from metropolis.ctl.metal.commands.fit import size_and_image
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.flags import body_of, pairs, split, text_flag
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import emit_list, say, write
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import sorted_by
from metropolis.ctl.metal.tables import inventory
from metropolis.ctl.printing import json_text, yaml_text


@command("suggest")
@click.argument("id", metavar="SIZE")
@click.option(
    "--machine-id",
    "machine",
    required=True,
    metavar="MACHINE",
    shell_complete=complete_ids("machine"),
    help="Whose hardware the size is to fit.",
)
@click.option("--name", metavar="TEXT", default="", help="Name of the size.")
@click.option("--description", metavar="TEXT", default="", help="Description of the size.")
@click.option("--labels", multiple=True, metavar="NAME=VALUE,…", help="Labels of the size.")
@click.pass_context
def size_suggest(
    ctx: click.Context,
    id: str,  # noqa: A002  # the word of the interface
    *,
    machine: str,
    name: str,
    description: str,
    labels: tuple[str, ...],
) -> None:
    """Print a size that a machine's hardware fits exactly, for `size create -f -`."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        constraints = client.call("POST", "/v1/size/suggest", {"machineID": machine})
    size = {
        "id": id,
        "name": name,
        "description": description,
        "constraints": constraints,
        "labels": pairs(split(labels), flag="labels"),
    }
    write(json_text(size) if settings.output == "json" else yaml_text(size))


@command("try")
@size_and_image
@click.pass_context
def constraint_try(ctx: click.Context, size: str, image: str) -> None:
    """Say whether machines of a size may run an image."""
    with opened(settings_of(ctx)) as client:
        client.call("POST", "/v1/size-image-constraint/try", {"size": size, "image": image})
    say(f"Machines of size {size} may run {image}.")


_USAGE_FLAGS: Final = (
    text_flag("partition", "Partition.", "partitionid", completes="partition"),
    text_flag("project", "Project.", "projectid", completes="project"),
    text_flag("size-id", "Size.", "sizeid", completes="size"),
)


_USAGE_KEYS: Final = {
    "id": "id",
    "description": "description",
    "partition": "partitionid",
    "project": "projectid",
    "size": "sizeid",
}


def _usage(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    with opened(settings) as client:
        body = body_of(_USAGE_FLAGS, given)
        found: list[Json] = client.call("POST", "/v1/size/reservations/usage", body) or []
    items = sorted_by(found, _USAGE_KEYS, given["sort_by"] or ("id",))
    emit_list(settings, items, inventory.reservation_usage)


reservation_usage: Final = MetalctlCommand(
    "usage",
    callback=_usage,
    help="Show how much of what is kept for projects they use.",
    params=[
        *(flag.option() for flag in _USAGE_FLAGS),
        click.Option(
            ["--sort-by"],
            multiple=True,
            metavar="COLUMN,…",
            help="id, size, project, partition, description; with :asc or :desc behind it.",
        ),
    ],
)
