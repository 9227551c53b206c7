# SPDX-License-Identifier: Apache-2.0
"""`metroctl node add role` and `metroctl node remove role`."""

from collections.abc import Sequence

import click

from metropolis.base.errors import MetropolisError
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes, complete_roles
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run
from metropolis.ctl.settings import Settings

_KUBERNETES = "Kubernetes"


@command("role")
@click.argument("role", shell_complete=complete_roles)
@click.argument("node_ids", nargs=-1, required=True, shell_complete=complete_nodes)
@click.pass_context
def add_role(ctx: click.Context, role: str, node_ids: Sequence[str]) -> None:
    """Give a role to nodes.

    ROLE is ConsensusMember (cm), KubernetesController (kc) or KubernetesWorker (kw).
    """
    _update(settings_of(ctx), role, node_ids, is_added=True)


@command("role")
@click.argument("role", shell_complete=complete_roles)
@click.argument("node_ids", nargs=-1, required=True, shell_complete=complete_nodes)
@click.pass_context
def remove_role(ctx: click.Context, role: str, node_ids: Sequence[str]) -> None:
    """Take a role from nodes.

    ROLE is ConsensusMember (cm), KubernetesController (kc) or KubernetesWorker (kw).
    """
    _update(settings_of(ctx), role, node_ids, is_added=False)


def _update(settings: Settings, role: str, node_ids: Sequence[str], *, is_added: bool) -> None:
    name = nodes.parse_role(role)

    async def act(cluster: Cluster) -> None:
        known = await nodes.list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
        failures: list[MetropolisError] = []
        for node in nodes.pick_all(known, node_ids):  # all ids are right before anything changes
            try:
                await nodes.update_roles(
                    cluster.channel,
                    node.id,
                    add=[name] if is_added else [],
                    remove=[] if is_added else [name],
                    timeout_s=cluster.timeout_s,
                )
            except MetropolisError as error:
                say(f'Couldn\'t update node "{node.id}": {error}')
                failures.append(error)
            else:
                say(f"Updated node {node.id}.")
        if failures:
            raise _summary(failures)

    run(settings, act)
    if is_added and name.startswith(_KUBERNETES):
        say(f"{name} is stored; it takes effect with a build that has Kubernetes.")


def _summary(failures: Sequence[MetropolisError]) -> MetropolisError:
    """Return the error to end with: worth trying again only if every failure is."""
    worst = next((error for error in failures if not error.retryable), failures[0])
    if len(failures) == 1:
        return worst
    return type(worst)(f"{len(failures)} nodes were not updated: {worst}", remedy=worst.remedy)
