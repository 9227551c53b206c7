# SPDX-License-Identifier: Apache-2.0
"""`metroctl takeownership`, also spelled `metroctl cluster takeownership`."""

from dataclasses import replace

import click

from metropolis.base.errors import InvalidArgumentError, MetropolisError, PermissionDeniedError
from metropolis.ctl import contexts, kubeconfig
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.contexts import Context
from metropolis.ctl.kubernetes_probe import NotEnabled, probe
from metropolis.ctl.options import settings_of
from metropolis.ctl.ownership import Ownership, take_ownership
from metropolis.ctl.printing import say
from metropolis.ctl.session import pin_ca, run_async, where
from metropolis.ctl.settings import Settings

OWNED = "Successfully retrieved owner credentials! You now own this cluster."


@command("takeownership")
@click.argument("address", required=False)
@click.pass_context
def takeownership(ctx: click.Context, address: str | None) -> None:
    """Fetch the owner's credentials of a new cluster.

    ADDRESS is one node of it; --endpoints does the same. The owner key must be the one with which
    the cluster was bootstrapped. It may be repeated at any time.
    """
    settings = settings_of(ctx)
    if address is not None:
        settings.endpoints.append(address)
    context = context_of(settings)
    if len(context.endpoints) != 1:
        raise InvalidArgumentError(
            f"exactly one address is needed to take ownership, not {len(context.endpoints)}",
            remedy="Run `metroctl takeownership ADDRESS` with the address of the first node.",
        )
    pin_ca(settings, context)
    ownership = run_async(
        settings, _take(settings, context), awaits=f"the node at {where(context)}"
    )
    say(OWNED)
    _remember(context)
    _set_up_kubernetes(settings, context, ownership)


async def _take(settings: Settings, context: Context) -> Ownership:
    try:
        return await take_ownership(
            context,
            accept_ca=lambda _: False,  # a person was asked before
            timeout_s=settings.timeout_s,
        )
    except PermissionDeniedError as cause:
        raise PermissionDeniedError(
            f"the cluster does not accept {context.owner_key_path}: {cause}",
            remedy="Name the context (--context) or the directory (--config) that holds the key "
            "with which this cluster was bootstrapped.",
        ) from cause


def _remember(context: Context) -> None:
    """Keep in a named context how the cluster was reached, besides the ways that it knew."""
    if context.name:
        contexts.learn(contexts.default_root(), context)


def _set_up_kubernetes(settings: Settings, context: Context, ownership: Ownership) -> None:
    """Ownership stands whatever comes out of this."""
    try:
        found = run_async(
            settings,
            probe(context, ca=ownership.ca, timeout_s=settings.timeout_s),
            awaits="the Kubernetes API",
        )
    except MetropolisError as error:
        say(f"Kubernetes was not set up: {error}")
        say("Once it runs, `metroctl k8s configure` sets up kubectl.")
        return
    if isinstance(found, NotEnabled):
        say(f"{found.message}; so no kubeconfig was written.")
        return
    name = kubeconfig.install(replace(context), server_name=found.server_name, ca=ownership.ca)
    say(f"Success! kubeconfig is set up. You can now run kubectl --context={name} ...")
