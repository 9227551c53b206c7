# SPDX-License-Identifier: Apache-2.0
"""`metroctl user login`."""

import getpass
import sys

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import contexts, files
from metropolis.ctl import credentials as owner
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.contexts import Context
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import pin_ca, run_async, where
from metropolis.ctl.settings import Settings
from metropolis.ctl.user_credentials import create_user_key, user_certificate
from metropolis.ctl.user_login import log_in
from metropolis.host.linux.entropy import LinuxEntropy


@command("login")
@click.argument("name")
@click.option(
    "--new-context",
    metavar="CONTEXT",
    help="Keep key and certificate in a new context that reaches the same cluster.",
)
@click.pass_context
def user_login(ctx: click.Context, name: str, new_context: str | None) -> None:
    """Log in as a user with a password.

    `metroctl user password NAME` makes it. It is asked for, or read from standard input. The key
    is made here and never leaves this computer; the certificate lasts 30 days and is renewed when
    a command needs it.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    if new_context is not None:
        context = _copied(context, new_context)
    if context.owner_key_path.exists():
        raise FailedPreconditionError(
            f"{context.directory} holds the owner's key",
            remedy=f"Add --new-context NAME to be {name} beside being the owner.",
        )
    known = user_certificate(context)
    if known is not None and known.name != name:
        raise FailedPreconditionError(
            f"{context.directory} holds the key of user {known.name}",
            remedy=f"Add --new-context NAME to be {name} as well.",
        )
    create_user_key(context, LinuxEntropy())
    pin_ca(settings, context)
    if not _attempt(settings, context, name, None):
        _attempt(settings, context, name, _asked(name))
    _remember(context)
    certificate = user_certificate(context)
    assert certificate is not None, "it was stored just now"
    say(f"You are user {name} until {certificate.not_after:%Y-%m-%d}; it is renewed before that.")
    if new_context is not None:
        say(f"Use it with --context {new_context}, or `metroctl context use {new_context}`.")


def _attempt(settings: Settings, context: Context, name: str, password: str | None) -> bool:
    return run_async(
        settings,
        log_in(context, name, password=password, timeout_s=settings.timeout_s),
        awaits=f"the cluster ({where(context)})",
    )


def _asked(name: str) -> str:
    """Ask a person for the password, or read one line."""
    if sys.stdin.isatty():
        return getpass.getpass(f"One-time password of {name}: ", stream=sys.stderr)
    return sys.stdin.readline().strip()


def _copied(context: Context, name: str) -> Context:
    """Make a context of another name that reaches the same cluster and trusts the same CA."""
    root = contexts.default_root()
    known = contexts.load(root, context.name).endpoints if context.name else ()
    made = contexts.create(
        root,
        name,
        endpoints=tuple(dict.fromkeys((*known, *context.endpoints))),
        proxy=context.proxy,
        cluster_domain=context.cluster_domain,
    )
    ca = files.read(context.ca_path)
    if ca is not None and owner.read_ca(made) is None:
        files.replace(made.ca_path, ca)
    return made


def _remember(context: Context) -> None:
    """Keep in a named context how the cluster was reached, besides the ways that it knew."""
    if context.name and contexts.learn(contexts.default_root(), context):
        known = contexts.load(contexts.default_root(), context.name)
        say(f"Context {known.name} has these endpoints now: {', '.join(known.endpoints)}.")
