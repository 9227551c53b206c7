# SPDX-License-Identifier: Apache-2.0
"""What a shell may offer: live ids, words, contexts. Never fails, never waits for long."""

from collections.abc import Sequence
from dataclasses import replace

import click
from click.shell_completion import CompletionItem

from metropolis.ctl.metal.places import PLACES
from metropolis.ctl.offers import TIMEOUT_S, Completer, offer, quietly


def complete_ids(words: str) -> Completer:
    """Return what offers the ids of an entity, such as `size imageconstraint`."""

    def complete(
        ctx: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return quietly(lambda: _live(ctx, words, incomplete))

    return complete


def complete_words(words: Sequence[str]) -> Completer:
    """Return what offers fixed words."""

    def complete(
        _ctx: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return offer(dict.fromkeys(words, ""), incomplete)

    return complete


def complete_contexts(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of the contexts."""

    def found() -> list[CompletionItem]:
        from metropolis.ctl.metal.configuration import read_contexts  # noqa: PLC0415  # seldom
        from metropolis.ctl.metal.options import settings_of  # noqa: PLC0415  # seldom needed

        contexts = read_contexts(settings_of(ctx)).contexts
        return offer(
            {name: str(each.get("url", "")) for name, each in contexts.items()}, incomplete
        )

    return quietly(found)


def _live(ctx: click.Context, words: str, incomplete: str) -> list[CompletionItem]:
    # Imported here: every command refers to this module, light ones included.
    from metropolis.ctl.metal.cells import text  # noqa: PLC0415  # heavy
    from metropolis.ctl.metal.options import settings_of  # noqa: PLC0415  # heavy
    from metropolis.ctl.metal.session import opened  # noqa: PLC0415  # heavy

    settings = replace(settings_of(ctx), timeout_s=TIMEOUT_S, debug=False)
    place = PLACES[words]
    with opened(settings) as client:
        items = client.call("GET", place.path)
    offers = {text(item, place.key): text(item, place.hint) for item in items}
    return offer(offers, incomplete)
