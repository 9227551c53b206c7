# SPDX-License-Identifier: Apache-2.0
"""Asks the leader and the nodes for everything; what fails is noted and holds nothing up."""

import asyncio
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from metropolis import __version__
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import (
    DeadlineExceededError,
    MetropolisError,
    UnavailableError,
    chain,
)
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import credentials as owner
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster, endpoints_of
from metropolis.ctl.contexts import Context
from metropolis.ctl.support import cluster as leader
from metropolis.ctl.support import node as single
from metropolis.ctl.support.bundle import Bundle
from metropolis.pki.certificates import fingerprint
from metropolis.pki.identity import server_verifier
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

AT_ONCE: Final = 8  # nodes
QUESTION_S: Final = 70.0  # however slow the answer: a little more than a log may take
LOG_ENTRIES: Final = 20_000

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to put into a bundle.

    Attributes:
        nodes: Ids, beginnings of ids or addresses; empty: all.
        log_entries: Of each node, the newest.
    """

    nodes: Sequence[str] = ()
    log_entries: int = LOG_ENTRIES


async def gather(
    cluster: Cluster, context: Context, wanted: Wanted, *, bundle: Bundle, tell: Tell
) -> None:
    """Fill a bundle.

    Args:
        tell: Told what was just done, one line at a time.

    Raises:
        NotFoundError, InvalidArgumentError: a wanted node is none. Nothing else.
    """
    bundle.add_document("metroctl.json", _program(context))
    found = await _find(cluster, bundle)
    chosen = nodes.pick_all(found, wanted.nodes) if found and wanted.nodes else found
    if found:
        for path, question in leader.QUESTIONS.items():
            try:
                async with asyncio.timeout(QUESTION_S):
                    bundle.add_document(path, await question(cluster, found))
            except MetropolisError as error:
                _miss(bundle, path, error)
            except TimeoutError:
                _miss(bundle, path, _too_slow())
        tell("asked the leader")
    else:
        tell("no leader answers: asking the nodes at the known addresses")
        chosen = _strangers(context, wanted)
    await _ask_nodes(cluster, chosen, wanted, bundle=bundle, tell=tell)


async def _find(cluster: Cluster, bundle: Bundle) -> Sequence[Node]:
    try:
        return await nodes.list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    except MetropolisError as error:
        for path in leader.QUESTIONS:
            _miss(bundle, path, error)
        return ()


def _strangers(context: Context, wanted: Wanted) -> Sequence[Node]:
    """Return what is known without a leader: addresses."""
    known = [endpoint.host for endpoint in endpoints_of(context)]
    hosts = [host for host in known if host in wanted.nodes] if wanted.nodes else known
    found = [Node() for _ in hosts or known]
    for node, host in zip(found, hosts or known, strict=True):
        node.status.external_address = host
    return found


async def _ask_nodes(
    cluster: Cluster, chosen: Sequence[Node], wanted: Wanted, *, bundle: Bundle, tell: Tell
) -> None:
    turns = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def ask(node: Node) -> None:
        nonlocal done
        async with turns:
            await _ask_node(cluster, node, wanted, bundle)
        done += 1
        tell(f"asked node {done} of {len(chosen)}: {_name(node)}")

    async with asyncio.TaskGroup() as group:
        for node in chosen:
            group.create_task(ask(node))


async def _ask_node(cluster: Cluster, node: Node, wanted: Wanted, bundle: Bundle) -> None:
    root = f"nodes/{_name(node)}"
    if not node.status.external_address:
        error = UnavailableError("the node never reported an address")
        for name in single.QUESTIONS:
            _miss(bundle, f"{root}/{name}", error)
        return
    async with AsyncExitStack() as stack:
        if node.id:
            channel = await stack.enter_async_context(cluster.dial_node(node))
        else:
            channel = cluster.transport.dial(
                Endpoint(node.status.external_address, NODE_MANAGEMENT_TCP_PORT),
                credentials=cluster.credentials,
                verify=server_verifier(cluster.ca),
            )
            stack.push_async_callback(channel.close)
        asked = single.Asked(
            cluster=cluster, node=node, channel=channel, log_entries=wanted.log_entries
        )
        silent: MetropolisError | None = None
        for name, question in single.QUESTIONS.items():
            path = f"{root}/{name}"
            try:
                if silent is not None:
                    raise silent  # a machine that is off is not waited for seven times
                async with asyncio.timeout(QUESTION_S):
                    bundle.add(path, await question(asked))
            except TimeoutError:
                _miss(bundle, path, _too_slow())
            except MetropolisError as error:
                silent = error if isinstance(error, NotReachedError) else silent
                _miss(bundle, path, error)


def _program(context: Context) -> dict[str, object]:
    """Describe the operator's program and context, without its keys."""
    ca = owner.read_ca(context)
    return {
        "metroctl": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arguments": sys.argv[1:2],
        "context": {
            "name": context.name,
            "cluster_domain": context.cluster_domain,
            "endpoints": list(context.endpoints),
            "proxy": context.proxy,
            "ca_fingerprint": None if ca is None else fingerprint(ca),
        },
    }


def _too_slow() -> MetropolisError:
    return DeadlineExceededError(f"no answer within {QUESTION_S:.0f} s")


def _miss(bundle: Bundle, path: str, error: MetropolisError) -> None:
    bundle.miss(path, chain(error), error.remedy)


def _name(node: Node) -> str:
    return node.id or f"at-{node.status.external_address.replace(':', '_')}"
