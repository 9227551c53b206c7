# SPDX-License-Identifier: Apache-2.0
"""What a shell may offer: ids of live nodes, roles, fields, contexts. Never fails, never waits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from metropolis.api.management_pb2 import Node
from metropolis.ctl import configuration, contexts, nodes, tables
from metropolis.ctl.connection import Cluster, connect
from metropolis.ctl.options import settings_of
from metropolis.ctl.session import context_of, run_async

TIMEOUT_S: Final = 3.0  # a shell that hangs is worse than one that offers nothing
_ROLES: Final = ("ConsensusMember", "KubernetesController", "KubernetesWorker")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the ids of all nodes."""
    return _quietly(lambda: _node_ids(ctx, "", incomplete))


def complete_new_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the ids of the nodes that wait for approval."""
    return _quietly(lambda: _node_ids(ctx, nodes.NEW_NODES, incomplete))


def complete_roles(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the roles."""
    return _offer(dict.fromkeys(_ROLES, ""), incomplete)


def complete_fields(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the fields of the cluster's configuration."""
    return _offer(dict.fromkeys(configuration.FIELDS, ""), incomplete)


def complete_contexts(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of the contexts."""
    return _quietly(
        lambda: _offer(dict.fromkeys(contexts.names(contexts.default_root()), ""), incomplete)
    )


def _node_ids(ctx: click.Context, filter_text: str, incomplete: str) -> list[CompletionItem]:
    settings = replace(settings_of(ctx), timeout_s=TIMEOUT_S, verbose=False)
    context = context_of(settings)

    async def ask() -> Sequence[Node]:
        async with connect(context, timeout_s=TIMEOUT_S) as cluster:
            return await _list(cluster, filter_text)

    found = run_async(settings, ask(), awaits="")
    given = set(ctx.params.get("node_ids") or ())
    offers = {
        node.id: f"{tables.state_text(node)} {','.join(tables.role_names(node.roles))}".strip()
        for node in found
        if node.id not in given
    }
    return _offer(offers, incomplete)


async def _list(cluster: Cluster, filter_text: str) -> Sequence[Node]:
    return await nodes.list_nodes(cluster.channel, filter_text, timeout_s=TIMEOUT_S)


def _offer(names: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=text or None)
        for name, text in names.items()
        if name.lower().startswith(incomplete.lower())
    ]


def _quietly(complete: Callable[[], Iterable[Any]]) -> list[CompletionItem]:
    try:
        return list(complete())
    except Exception:  # noqa: BLE001  # whatever is wrong, the prompt is no place to say it
        return []
