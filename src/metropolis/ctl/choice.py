# SPDX-License-Identifier: Apache-2.0
"""Which cluster a run is about, from its flags and the stored contexts."""

from dataclasses import replace

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.ctl import contexts
from metropolis.ctl.contexts import Context
from metropolis.ctl.settings import Settings


def context_of(settings: Settings) -> Context:
    """Return the context of a run: named, current, or the flat default directory.

    Flags that say how to reach the cluster replace what the context says.

    Raises:
        NotFoundError: there is no such context.
        InvalidArgumentError: flags contradict each other.
    """
    context = _stored_context(settings)
    if settings.endpoints:
        context = replace(context, endpoints=tuple(settings.endpoints))
    if settings.proxy is not None:
        context = replace(context, proxy=_check_proxy(settings.proxy))
    return context


def _stored_context(settings: Settings) -> Context:
    if settings.config is not None:
        if settings.context is not None:
            raise InvalidArgumentError(
                "--config and --context exclude each other", remedy="Give one of the two."
            )
        return contexts.flat(settings.config)
    root = contexts.default_root()
    name = settings.context or contexts.current_name(root)
    if name is None:
        return contexts.flat(root)
    try:
        return contexts.load(root, name)
    except NotFoundError as cause:
        if settings.context is not None:
            raise
        raise NotFoundError(
            f"the current context {name!r} does not exist any more",
            remedy="Choose another with `metroctl context use NAME`.",
        ) from cause


def _check_proxy(text: str) -> str | None:
    if not text:
        return None
    host, colon, port = text.removeprefix("socks5://").rpartition(":")
    if not host or not colon or not port.isdigit():
        raise InvalidArgumentError(
            f"{text[:64]!r} is not a proxy", remedy="Give it as HOST:PORT, e.g. 127.0.0.1:1080."
        )
    return f"{host}:{port}"
