# SPDX-License-Identifier: Apache-2.0
"""`metalctl login` and `metalctl logout`."""

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl.metal.commands.service import check_fit
from metropolis.ctl.metal.configuration import MetalContext, context_of
from metropolis.ctl.metal.login_flow import TIMEOUT_S, log_in
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import say, write
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.token_store import keep_token


@command("login")
@click.option("--print-only", is_flag=True, help="Print the token instead of keeping it.")
@click.pass_context
def login(ctx: click.Context, *, print_only: bool) -> None:
    """Log in at the identity provider of the context, with a browser.

    The browser comes back to a port of this computer; the token is kept readable by nobody else,
    and every later command shows it.
    """
    settings = settings_of(ctx)
    context = _people_of(context_of(settings))
    token = log_in(context, timeout_s=settings.timeout_s or TIMEOUT_S, told=say)
    if print_only:
        write(f"{token}\n")
        return
    path = keep_token(settings, context, token)
    say(f"You are logged in; the token is in {path}.")
    with opened(settings, is_anonymous=True) as client:
        check_fit(client.call("GET", "/v1/version"))


@command("logout")
@click.pass_context
def logout(ctx: click.Context) -> None:
    """Forget the token of the last login with the context."""
    settings = settings_of(ctx)
    context = context_of(settings)
    keep_token(settings, context, "")
    say("You are logged out here; the token itself lasts until it expires.")


def _people_of(context: MetalContext) -> MetalContext:
    if not context.issuer_url or not context.client_id:
        raise FailedPreconditionError(
            f"context {context.name or '(none)'} has no issuer_url and client_id to log in with",
            remedy="Write both into the context (`metalctl context --help`), or use a key.",
        )
    return context
