# SPDX-License-Identifier: Apache-2.0
"""What a shell may offer: ids of live nodes, roles, fields, contexts. Never fails, never waits."""

from dataclasses import replace
from typing import Final

import click
from click.shell_completion import CompletionItem

from metropolis.ctl import contexts
from metropolis.ctl.choice import context_of
from metropolis.ctl.offers import TIMEOUT_S, offer, quietly
from metropolis.ctl.options import settings_of

_NEW_NODES: Final = "node.state == NODE_STATE_NEW"
_ROLES: Final = ("ConsensusMember", "KubernetesController", "KubernetesWorker")


def complete_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the ids of all nodes."""
    return quietly(lambda: _node_ids(ctx, "", incomplete))


def complete_new_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the ids of the nodes that wait for approval."""
    return quietly(lambda: _node_ids(ctx, _NEW_NODES, incomplete))


def complete_roles(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the roles."""
    return offer(dict.fromkeys(_ROLES, ""), incomplete)


def complete_fields(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the fields of the cluster's configuration."""
    from metropolis.ctl import configuration  # noqa: PLC0415  # heavy, as above

    return offer(dict.fromkeys(configuration.FIELDS, ""), incomplete)


def complete_exporters(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer what measures something on a node."""
    from metropolis.ctl.node_metrics import EXPORTERS  # noqa: PLC0415  # heavy, as above

    return offer(EXPORTERS, incomplete)


def complete_contexts(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of the contexts."""
    return quietly(
        lambda: offer(dict.fromkeys(contexts.names(contexts.default_root()), ""), incomplete)
    )


def _node_ids(ctx: click.Context, filter_text: str, incomplete: str) -> list[CompletionItem]:
    # Imported here: every command module refers to this one, light ones included.
    from metropolis.api.management_pb2 import Node  # noqa: PLC0415
    from metropolis.ctl import nodes, tables  # noqa: PLC0415
    from metropolis.ctl.connection import connect  # noqa: PLC0415
    from metropolis.ctl.session import run_async  # noqa: PLC0415

    settings = replace(settings_of(ctx), timeout_s=TIMEOUT_S, verbose=False)
    context = context_of(settings)

    async def ask() -> list[Node]:
        async with connect(context, timeout_s=TIMEOUT_S) as cluster:
            return await nodes.list_nodes(cluster.channel, filter_text, timeout_s=TIMEOUT_S)

    found = run_async(settings, ask(), awaits="")
    given: set[str] = set(ctx.params.get("node_ids") or ())
    offers = {
        node.id: f"{tables.state_text(node)} {','.join(tables.role_names(node.roles))}".strip()
        for node in found
        if node.id not in given
    }
    return offer(offers, incomplete)
