# SPDX-License-Identifier: Apache-2.0
"""`metroctl node set labels`."""

from collections.abc import Sequence

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.base.names import label_key_problem, label_value_problem
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run


@command("labels")
@click.argument("node_id", shell_complete=complete_nodes)
@click.argument("changes", nargs=-1, required=True)
@click.pass_context
def set_labels(ctx: click.Context, node_id: str, changes: Sequence[str]) -> None:
    """Set and delete labels.

    CHANGES are KEY=VALUE to set a label and KEY- to delete one, all in one step.
    """
    upsert, delete = parse_changes(changes)

    async def act(cluster: Cluster) -> None:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        await nodes.update_labels(
            cluster.channel, node.id, upsert=upsert, delete=delete, timeout_s=cluster.timeout_s
        )
        say(f"Updated node {node.id}.")

    run(settings_of(ctx), act)


def parse_changes(changes: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what to set and which keys to delete.

    Raises:
        InvalidArgumentError: a change is malformed, or a key is changed twice.
    """
    upsert: dict[str, str] = {}
    delete: list[str] = []
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and change.endswith("-"):
            key = change[:-1]
        elif not equals:
            raise InvalidArgumentError(
                f"{change[:64]!r} changes nothing",
                remedy=f"Write {change[:64]}=VALUE to set the label, {change[:64]}- to delete it.",
            )
        if (problem := label_key_problem(key)) is not None:
            raise InvalidArgumentError(
                f"the label key {key[:64]!r} {problem}", remedy="Use a key like example.com/zone."
            )
        if (problem := label_value_problem(value)) is not None:
            raise InvalidArgumentError(
                f"the value of the label {key} {problem}", remedy="Use a value like fsn1-dc3."
            )
        if key in upsert or key in delete:
            raise InvalidArgumentError(
                f"the label {key} is changed twice", remedy="Name every label once."
            )
        if equals:
            upsert[key] = value
        else:
            delete.append(key)
    return upsert, delete
