# SPDX-License-Identifier: Apache-2.0
"""From the flags of a run to an open connection, and from there to an answer."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from metropolis.base.errors import MetropolisError
from metropolis.ctl import credentials as owner
from metropolis.ctl.choice import context_of
from metropolis.ctl.connection import Cluster, connect
from metropolis.ctl.contexts import Context
from metropolis.ctl.ownership import AcceptCa, adopt_ca, named_ca
from metropolis.ctl.printing import say
from metropolis.ctl.settings import Settings
from metropolis.ctl.user_credentials import is_renewal_due, shown_credentials
from metropolis.ctl.user_login import renew
from metropolis.host.linux.clock import LinuxClock
from metropolis.pki.certificates import fingerprint

T = TypeVar("T")

QUIET_S: Final = 2.0  # then people are told what is being waited for
_narration: ContextVar[asyncio.TimerHandle] = ContextVar("narration")


def run(settings: Settings, act: Callable[[Cluster], Awaitable[T]], *, is_long: bool = False) -> T:
    """Connect as the owner or user of the context, do something, and disconnect.

    Args:
        is_long: It goes on for so long that nodes may come, go and move meanwhile.

    Raises:
        MetropolisError: what the operator must know.
    """
    context = context_of(settings)

    async def connected() -> T:
        timeout_s = settings.timeout_s
        async with connect(context, timeout_s=timeout_s, follows_members=is_long) as cluster:
            return await act(cluster)

    shown_credentials(context)  # whoever has nothing to show is told so first
    pin_ca(settings, context)
    _renew(settings, context)
    return run_async(settings, connected(), awaits=f"the cluster ({where(context)})")


def _renew(settings: Settings, context: Context) -> None:
    """Renew a user's certificate that ends soon. It may still serve when that fails."""
    if not is_renewal_due(context, LinuxClock().wall()):
        return
    try:
        run_async(
            settings,
            renew(context, timeout_s=settings.timeout_s),
            awaits=f"a new certificate from the cluster ({where(context)})",
        )
    except MetropolisError as error:
        say(f"Your certificate was not renewed: {error}")
    else:
        say("Your certificate was renewed.")


def pin_ca(settings: Settings, context: Context) -> bytes:
    """Return the CA (DER) of a context; without one, ask the cluster and then a person.

    The person is asked outside the event loop, where Ctrl-C ends the question.

    Raises:
        MetropolisError: no node answered, or the CA is not to be trusted.
    """
    ca = owner.read_ca(context)
    if ca is None:
        asking = named_ca(context, timeout_s=settings.timeout_s)
        ca = run_async(settings, asking, awaits=f"the node at {where(context)}")
        adopt_ca(context, ca, accept_ca=_ca_prompt(settings, context))
    return ca


def run_async(settings: Settings, work: Coroutine[Any, Any, T], *, awaits: str) -> T:
    """Run work to its end; after a short while say what it waits for."""

    async def narrated() -> T:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(QUIET_S, say, f"Waiting for {awaits} …")
        _narration.set(timer)
        try:
            return await work
        finally:
            timer.cancel()

    with _told_on_stderr(settings):
        return asyncio.run(narrated())


@contextmanager
def _told_on_stderr(settings: Settings) -> Generator[None, None, None]:
    """Show what the rooms below log: errors, or with --verbose everything worth knowing."""
    log = logging.getLogger("metropolis")
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO if settings.verbose else logging.ERROR)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


def answered() -> None:
    """The cluster answered: from here on silence is no wait for it."""
    _narration.get().cancel()


def where(context: Context) -> str:
    """Name the place of a cluster, for people."""
    text = ", ".join(context.endpoints) or "no address"
    return f"{text} through proxy {context.proxy}" if context.proxy else text


def _ca_prompt(settings: Settings, context: Context) -> AcceptCa:
    """Return what asks a person whether to trust a CA; `yes`, in full, is the only consent."""

    def ask(ca: bytes) -> bool:
        say(
            f"The authenticity of the cluster at {where(context)} cannot be established.\n"
            f"The fingerprint of its CA certificate is {fingerprint(ca)}"
        )
        if settings.accept_first_ca:
            say("It is trusted from now on, because the flag says so.")
            return True
        print("Trust it from now on? Type yes in full: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip() == "yes"

    return ask
