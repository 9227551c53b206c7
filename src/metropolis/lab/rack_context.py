# SPDX-License-Identifier: Apache-2.0
"""The context of a rack whose machines its operator installs: how `metroctl` gets in, no more.

Keys, endpoints and trust come from `metroctl` itself, as with machines that stand elsewhere.
"""

from pathlib import Path

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import contexts
from metropolis.ctl.contexts import Context
from metropolis.lab.model import Rack


def check_free(root: Path, name: str) -> None:
    """Require that no context of that name has a key or a CA yet.

    Raises:
        FailedPreconditionError: one has.
    """
    if name not in contexts.names(root):
        return
    context = contexts.load(root, name)
    held = (context.owner_key_path, context.user_key_path, context.ca_path)
    if any(path.exists() for path in held):
        raise FailedPreconditionError(
            f"there is a context named {name!r} already, of another cluster",
            remedy=f"Give another --name, or run `metroctl context remove {name}`.",
        )


def rack_context(root: Path, rack: Rack) -> Context:
    """Return the context of a blank rack; it is made if needed, and told where the proxy is."""
    known = contexts.load(root, rack.name) if rack.name in contexts.names(root) else None
    if known is not None and known.proxy == rack.proxy:
        return known
    return contexts.create(
        root,
        rack.name,
        endpoints=() if known is None else known.endpoints,
        proxy=rack.proxy,
        cluster_domain="" if known is None else known.cluster_domain,
    )


def remove_rack_context(root: Path, rack: Rack) -> None:
    """Delete the context of a blank rack with its keys, if it still leads there."""
    if rack.name in contexts.names(root) and contexts.load(root, rack.name).proxy == rack.proxy:
        contexts.remove(root, rack.name)
